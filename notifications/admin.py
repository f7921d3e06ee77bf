"""Operators' pages: configs, the ledger with its attempts, and why somebody was not notified."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from accounts.models import User
from notifications import attempts, services
from notifications.api.inputs import Filters
from notifications.explain import explain
from notifications.models import Attempt, Delivery, Episode, MailConsent, NotificationConfig
from notifications.transports import CHANNELS, OFFERED
from notifications.transports.base import InvalidTargetError
from rest.errors import SVOpsError
from workflows.models import Run

if TYPE_CHECKING:
    ConfigPages = admin.ModelAdmin[NotificationConfig]
    DeliveryPages = admin.ModelAdmin[Delivery]
    EpisodePages = admin.ModelAdmin[Episode]
    ConsentPages = admin.ModelAdmin[MailConsent]
    AttemptRows = admin.TabularInline[Attempt, Delivery]
    ConfigModelForm = forms.ModelForm[NotificationConfig]
else:
    ConfigPages = DeliveryPages = EpisodePages = ConsentPages = admin.ModelAdmin
    AttemptRows, ConfigModelForm = admin.TabularInline, forms.ModelForm

EDITED = [
    "name", "owner", "filters", "fold_repeats", "quiet_from", "quiet_until", "quiet_timezone", "max_in_flight",
    "is_canary",
]  # fmt: skip


class ConfigForm(ConfigModelForm):
    channel = forms.ChoiceField(choices=[(name, transport.label) for name, transport in OFFERED.items()])
    target = forms.CharField(
        required=False,
        max_length=2000,
        help_text="A URL, or e-mail addresses with commas. Empty keeps the present target.",
    )
    notification_types = forms.MultipleChoiceField(
        choices=[(name, name) for name in services.TYPES], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = NotificationConfig
        fields = EDITED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["channel"].required = False
            self.fields["channel"].disabled = True
            self.initial["channel"] = self.instance.channel
            self.initial["notification_types"] = self.instance.notification_types

    def clean_filters(self) -> dict[str, Any]:
        given = Filters(data=self.cleaned_data["filters"] or {}, context={"user": self.cleaned_data.get("owner")})
        if not given.is_valid():
            raise forms.ValidationError([f"{name}: {problem}" for name, problem in given.errors.items()])
        return dict(given.validated_data)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        channel, target = self.instance.channel or cleaned.get("channel"), cleaned.get("target")
        if not target and not self.instance.pk:
            self.add_error("target", "This field is required.")
        elif target and channel in CHANNELS:
            try:
                CHANNELS[channel].clean(target, attempts.client())
            except InvalidTargetError as exc:
                self.add_error("target", str(exc))
        return cleaned


@admin.register(NotificationConfig)
class ConfigAdmin(ConfigPages):
    form = ConfigForm
    list_display = [
        "name", "channel", "owner_name", "target_hint", "enabled", "disabled_reason", "failures", "paused_until",
    ]  # fmt: skip
    list_filter = ["enabled", "channel", ("deleted_at", admin.EmptyFieldListFilter), "is_canary"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username", "owner__email", "disabled_reason"]
    autocomplete_fields = ["owner"]
    readonly_fields = [
        "target_hint", "enabled", "disabled_reason", "disabled_at", "failures", "paused_until", "created_at",
        "updated_at", "deleted_at",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["name", "channel", "owner", "target", "target_hint", "notification_types", "filters"]}),
        ("Quiet", {"fields": ["fold_repeats", "quiet_from", "quiet_until", "quiet_timezone"]}),
        ("Receiver", {"fields": ["max_in_flight", "is_canary", "failures", "paused_until"]}),
        ("State", {"fields": ["enabled", "disabled_reason", "disabled_at", "created_at", "updated_at", "deleted_at"]}),
    ]
    actions = ["enable", "disable", "send_test", "remove"]
    change_list_template = "admin/notifications/change_list.html"

    @admin.display(description="Owner", ordering="owner__username")
    def owner_name(self, config: NotificationConfig) -> str:
        return config.owner.get_username() if config.owner else "everyone"

    def save_model(self, request: HttpRequest, obj: NotificationConfig, form: ConfigForm, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in EDITED if name != "owner"}
        values["notification_types"] = form.cleaned_data["notification_types"]
        if change:
            target = form.cleaned_data["target"] or None
            services.update_config(config=obj, owner=form.cleaned_data["owner"], target=target, **values)
            return
        owner = form.cleaned_data["owner"]
        made = services.create_config(
            actor=owner or cast(User, request.user),
            for_everyone=owner is None,
            channel=form.cleaned_data["channel"],
            target=form.cleaned_data["target"],
            **values,
        )
        # The admin goes on with the object of the form: give it the values of the new row.
        obj.__dict__.update(made.__dict__)
        if made.sealed_secrets:
            self.message_user(request, f"The secret, shown only now: {made.secrets[0]}", messages.WARNING)

    def has_delete_permission(self, request: HttpRequest, obj: NotificationConfig | None = None) -> bool:
        return False  # rows are kept; the action below hides them

    @admin.action(description="Delete, keeping the ledger", permissions=["change"])
    def remove(self, request: HttpRequest, queryset: QuerySet[NotificationConfig]) -> None:
        _each(self, request, queryset, lambda config: services.delete_config(config=config))

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[NotificationConfig]) -> None:
        _each(self, request, queryset, lambda config: services.enable(config=config))

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[NotificationConfig]) -> None:
        reason = f"by {request.user.get_username()}, in the admin"
        _each(self, request, queryset, lambda config: services.disable(config=config, reason=reason))

    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[NotificationConfig]) -> None:
        def send(config: NotificationConfig) -> None:
            sent = services.send_test(config=config, actor=cast(User, request.user))
            self.message_user(request, f"{config}: {sent.get_status_display()} {sent.reason}", messages.INFO)

        _each(self, request, queryset, send)

    def get_urls(self) -> list[URLPattern]:
        why = path("why", self.admin_site.admin_view(self.why), name="notifications_why")
        return [why, *super().get_urls()]

    def why(self, request: HttpRequest) -> HttpResponse:
        """Answer why somebody was not notified of a run."""
        form = WhyForm(request.GET or None)
        answers = explain(**form.cleaned_data) if form.is_valid() else None
        context = {**self.admin_site.each_context(request), "title": "Why was somebody not notified?"}
        context |= {"form": form, "answers": answers, "opts": self.opts}
        return TemplateResponse(request, "admin/notifications/why.html", context)


class WhyForm(forms.Form):
    user = forms.CharField(label="User", help_text="User name or e-mail address")
    run = forms.CharField(label="Run", help_text="The id of a run")

    def clean_user(self) -> User:
        given = self.cleaned_data["user"].strip()
        users = User.objects.filter(username__iexact=given) or User.objects.filter(email__iexact=given)
        if not users:
            raise forms.ValidationError("There is no such user.")
        return users[0]

    def clean_run(self) -> Run:
        try:
            return Run.objects.get(pk=UUID(self.cleaned_data["run"].strip()))
        except (ValueError, Run.DoesNotExist) as exc:
            raise forms.ValidationError("There is no such run.") from exc


class AttemptInline(AttemptRows):
    model = Attempt
    fields = ["number", "outcome", "started_at", "duration_ms", "status_code", "error", "response_excerpt"]
    readonly_fields = ["number", "outcome", "started_at", "duration_ms", "status_code", "error", "response_excerpt"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        return False


@admin.register(Delivery)
class DeliveryAdmin(DeliveryPages):
    list_display = [
        "message_id", "config", "owner_name", "kind", "what", "status", "reason", "attempts_made", "due_at",
        "created_at",
    ]  # fmt: skip
    list_filter = ["status", "kind", "config__channel", "created_at"]
    list_select_related = ["config__owner", "event"]
    search_fields = ["message_id", "config__name", "config__owner__username", "config__owner__email"]
    search_help_text = "Message id, config, user name or address, or the whole id of a run."
    date_hierarchy = "created_at"
    show_full_result_count = False
    inlines = [AttemptInline]
    actions = ["redeliver"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        return False

    @admin.display(description="Owner")
    def owner_name(self, delivery: Delivery) -> str:
        return delivery.config.owner.get_username() if delivery.config.owner else "everyone"

    @admin.display(description="Event")
    def what(self, delivery: Delivery) -> str:
        event = delivery.event
        return f"{event.type} {event.run_id or ''}" if event else ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        try:
            return queryset.filter(event__run_id=UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    @admin.action(description="Redeliver", permissions=["view"])
    def redeliver(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        _each(self, request, queryset, lambda delivery: services.redeliver(delivery=delivery))


@admin.register(MailConsent)
class MailConsentAdmin(ConsentPages):
    """Who agreed to mails, and who refused. Deleting a row lets its owner ask again."""

    list_display = ["shown", "owner", "link_due_at", "asked_at", "confirmed_at", "refused_at"]
    list_filter = [("confirmed_at", admin.EmptyFieldListFilter), ("refused_at", admin.EmptyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["shown", "owner__username"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: MailConsent | None = None) -> bool:
        return False


@admin.register(Episode)
class EpisodeAdmin(EpisodePages):
    list_display = ["config", "workflow", "key", "failures", "opened_at", "closed_at"]
    list_filter = [("closed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["config", "workflow"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Episode | None = None) -> bool:
        return False


def _each(
    pages: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any], change: Callable[[Any], object]
) -> None:
    done = 0
    for row in queryset:
        try:
            change(row)
        except SVOpsError as exc:
            pages.message_user(request, f"{row}: {exc}", messages.ERROR)
        else:
            done += 1
    if done:
        pages.message_user(request, f"Done for {done}.", messages.SUCCESS)
