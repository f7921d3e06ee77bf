"""The pages of Airflows. The services add, change, drain and delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from rest.errors import ConflictError, InvalidInputError, SVOpsError
from rest.masking import mask
from workflows import options as ways
from workflows import services
from workflows.admin.pages import EMPTY, Pages, actor, labels, list_link, moment, pretty
from workflows.models import Airflow, Run
from workflows.naming import EXPECTED, LONGEST_NAME
from workflows.services.airflows import shown_way

if TYPE_CHECKING:
    from accounts.models import User

    AirflowModelForm = forms.ModelForm[Airflow]
else:
    AirflowModelForm = forms.ModelForm

WAYS = [name for name in ways.NEEDED if name not in ways.BY_SERVER]
# What a page can give: the rest reads files of the server.
GIVEN = [name for name in ways.TABLE if name not in ways.LOCAL]
NUMBERS = ("token_timeout", "max_requests_per_second")
CLEARED = "cleared"
SECTIONS = {
    "Way in": ("url", "auth", "username", "password", "token", CLEARED),
    "OAuth 2": tuple(name for name in GIVEN if name.startswith("oauth2_")),
    "Between SVOps and Airflow": ("headers", "proxy", "token_timeout", "max_requests_per_second", "ingest_secret"),
}
TIMES = [moment(name) for name in ("drained_at", "emptied_at", "ticked_at", "looked_at", "swept_at")]
STATE: tuple[str, Any] = ("Now", {"fields": ["status", "open_runs", "version", "error", *TIMES]})


class HeadersField(forms.JSONField):
    """A JSON object. What is stored is never shown."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


def _field(name: str) -> forms.Field:
    """Return the field of an option, under the name that the documentation has for it."""
    if name == "auth":
        return forms.ChoiceField(label=name, choices=[(way, way) for way in WAYS])
    if name == "oauth2_method":
        methods = [("", ""), *((each, each) for each in ways.OAUTH2_METHODS)]
        return forms.ChoiceField(label=name, choices=methods, required=False)
    if name == "headers":
        widget = forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField json"})
        return HeadersField(label=name, required=False, widget=widget, help_text='Like {"X-Team": "data"}.')
    if name in NUMBERS:
        return forms.FloatField(label=name, required=False)
    if name in ways.SECRET:
        hidden = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"})
        return forms.CharField(label=name, required=False, strip=False, widget=hidden)
    wide = forms.TextInput(attrs={"class": "vTextField"})
    return forms.CharField(label=name, required=name == "url", widget=wide)


class OptionsForm(AirflowModelForm):
    """Saves through the services. `clean` calls them, because there a refusal can still be shown at its field."""

    actor: ClassVar[User]

    class Meta:
        model = Airflow
        fields = ["name", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            self.fields.pop(CLEARED, None)
            return
        way = shown_way(self.instance)
        for name in way.secrets:
            if field := self.fields.get(name):
                field.help_text = f"{field.help_text} Set, and not shown. Empty: it stays.".strip()
        self.initial = {**self.initial, **way.options, "url": way.url, "auth": way.auth}
        if isinstance(cleared := self.fields.get(CLEARED), forms.MultipleChoiceField):
            cleared.choices = [(name, name) for name in way.secrets]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.instance = self._saved(cleaned)
            except InvalidInputError as exc:
                for name, texts in exc.errors.items():
                    self.add_error(name if name in self.fields else None, texts)
            except SVOpsError as exc:
                self.add_error(None, str(exc))
        return cleaned

    def _saved(self, cleaned: dict[str, Any]) -> Airflow:
        given = {name: cleaned[name] if cleaned[name] not in ("", {}) else None for name in GIVEN if name in cleaned}
        if self.instance.pk is None:
            return services.create_airflow(
                actor=self.actor, name=cleaned["name"], options=given, is_active=cleaned["is_active"]
            )
        kept = ways.SECRET - {name for name, value in given.items() if value is not None} - {*cleaned[CLEARED]}
        options = {name: value for name, value in given.items() if name not in kept}
        return services.change_airflow(
            actor=self.actor, airflow=self.instance, options=options, is_active=cleaned["is_active"]
        )


AirflowForm: Any = type(
    "AirflowForm",
    (OptionsForm,),
    {
        "__module__": __name__,
        "name": forms.CharField(max_length=LONGEST_NAME, help_text=f"{EXPECTED} It never changes."),
        **{name: _field(name) for name in GIVEN},
        CLEARED: forms.MultipleChoiceField(
            required=False, label="Take away", help_text="Secrets that are stored.", widget=forms.CheckboxSelectMultiple
        ),
    },
)


@admin.register(Airflow)
class AirflowAdmin(Pages):
    """The way to the default one is that of the settings, and that of others may be that of AIRFLOWS_FILE."""

    form = AirflowForm
    list_display = [
        "name", "status", "url_", "version", "open_runs", moment("ticked_at"), moment("looked_at"), "error",
    ]  # fmt: skip
    list_filter = ["is_active", "reachable"]
    search_fields = ["name", "version", "last_error"]
    readonly_fields = ["status", "open_runs", "url_", "auth_", "options_", "secrets_", "version", "error", *TIMES]
    actions = ["drain", "undrain"]

    def get_fieldsets(self, request: HttpRequest, obj: Airflow | None = None) -> Any:
        if obj and not self.has_change_permission(request, obj):
            shown = {"fields": ["name", "is_active", "url_", "auth_", "options_", "secrets_"]}
            return [(None, shown), STATE]
        sections = [(title, {"fields": [*names]}) for title, names in SECTIONS.items()]
        if obj is None:
            sections[0][1]["fields"].remove(CLEARED)
            return [(None, {"fields": ["name", "is_active"]}), *sections]
        return [(None, {"fields": ["name", "is_active"]}), *sections, STATE]

    def get_readonly_fields(self, request: HttpRequest, obj: Airflow | None = None) -> Any:
        return [*self.readonly_fields, *(["name"] if obj else [])]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.actor = actor(request)
        return form

    def has_add_permission(self, request: HttpRequest) -> bool:
        return actor(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Airflow | None = None) -> bool:
        return actor(request).is_superuser and not (obj and (obj.is_default or obj.from_file))

    def has_delete_permission(self, request: HttpRequest, obj: Airflow | None = None) -> bool:
        return actor(request).is_superuser and not (obj and obj.is_default)

    def has_drain_permission(self, request: HttpRequest) -> bool:
        return actor(request).is_superuser

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form has saved through the service."""

    # --- columns ------------------------------------------------------------------------------------------

    @admin.display(description="state", ordering="reachable")
    def status(self, airflow: Airflow) -> SafeString:
        if not airflow.is_active:
            return labels(("not active", "warning"))
        marks = [("reachable", "success") if airflow.reachable else ("unreachable", "failed")]
        marks += [("stale", "warning")] if airflow.is_stale(timezone.now()) else []
        marks += [("drained", "warning")] if airflow.is_drained and not airflow.emptied_at else []
        marks += [("drained, empty", "warning")] if airflow.emptied_at else []
        return labels(*marks)

    @admin.display(description="address")
    def url_(self, airflow: Airflow) -> str:
        return shown_way(airflow).url

    @admin.display(description="way in")
    def auth_(self, airflow: Airflow) -> str:
        return shown_way(airflow).auth

    @admin.display(description="options")
    def options_(self, airflow: Airflow) -> SafeString:
        return pretty(shown_way(airflow).options)

    @admin.display(description="secrets that are set")
    def secrets_(self, airflow: Airflow) -> str:
        return ", ".join(shown_way(airflow).secrets) or EMPTY

    @admin.display(description="open runs")
    def open_runs(self, airflow: Airflow) -> str:
        count = Run.objects.open().filter(airflow__name=airflow.name).count()
        return list_link(Run, str(count), airflow=airflow.name, progress="open")

    @admin.display(description="last error")
    def error(self, airflow: Airflow) -> str:
        return mask(airflow.last_error) or EMPTY

    # --- drain and delete ---------------------------------------------------------------------------------

    @admin.action(description="Drain: take no new runs", permissions=["drain"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Airflow]) -> None:
        def act(airflow: Airflow) -> str:
            services.drain_airflow(actor=actor(request), airflow=airflow)
            return "takes no new runs."

        self.each(request, queryset, act)

    @admin.action(description="Undrain: take new runs again", permissions=["drain"])
    def undrain(self, request: HttpRequest, queryset: QuerySet[Airflow]) -> None:
        def act(airflow: Airflow) -> str:
            services.drain_airflow(actor=actor(request), airflow=airflow, drained=False)
            return "takes new runs."

        self.each(request, queryset, act)

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        # One at a time, on its page.
        actions.pop("delete_selected", None)
        return actions

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what the confirmation lists. The service refuses while anything is on it."""
        return [str(airflow) for airflow in objs], {"Airflows": len(objs)}, set(), []

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ConflictError as exc:
            self.message_user(request, f"Not deleted. {exc}", messages.WARNING)
            return HttpResponseRedirect(reverse("admin:workflows_airflow_change", args=[object_id]))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        services.delete_airflow(airflow=obj, actor=actor(request))
