"""The page of DAG rules: who may build on which DAG. The services add and withdraw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from rest.errors import InvalidInputError, SVOpsError
from workflows import services
from workflows.admin.pages import Pages, actor, airflows_of, moment
from workflows.dagrules import DagRule
from workflows.models import Airflow
from workflows.naming import DEFAULT

if TYPE_CHECKING:
    from accounts.models import User

    DagRuleModelForm = forms.ModelForm[DagRule]
else:
    DagRuleModelForm = forms.ModelForm


EVERY = [("", "every Airflow")]


def _airflows() -> list[tuple[str, str]]:
    return [*((name, name) for name in Airflow.by_name()), *EVERY]


class DagRuleForm(DagRuleModelForm):
    """Adds through the service. `clean` calls it, because there a refusal can still be shown at its field."""

    actor: ClassVar[User]

    airflow = forms.ChoiceField(
        label="Airflow", required=False, choices=_airflows, initial=DEFAULT, help_text="The one that has the DAGs."
    )

    class Meta:
        model = DagRule
        fields = ["airflow", "match", "value", "user", "group", "level"]
        help_texts = {"user": "Without a user and a group, the rule is for everybody."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "airflow" in self.fields and len(_airflows()) == len(EVERY) + 1:
            del self.fields["airflow"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.instance = services.open_dags(actor=self.actor, **cleaned).rule
            except InvalidInputError as exc:
                for field, texts in exc.errors.items():
                    self.add_error(field, texts)
            except SVOpsError as exc:
                self.add_error(None, str(exc))
        return cleaned


@admin.register(DagRule)
class DagRuleAdmin(Pages):
    """Rules are added and withdrawn. A new rule with another level replaces the old one."""

    form = DagRuleForm
    list_display = ["__str__", "match", "value", "user", "group", "level", moment("created_at")]
    list_filter = ["match", "level"]
    list_select_related = ["user", "group"]
    search_fields = ["value", "user__username", "group__name"]
    autocomplete_fields = ["user", "group"]

    def get_fields(self, request: HttpRequest, obj: DagRule | None = None) -> Any:
        """Return the fields; which Airflow is asked only if there are several."""
        fields = super().get_fields(request, obj)
        return fields if len(airflows_of(request)) > 1 else [name for name in fields if name != "airflow"]

    def has_change_permission(self, request: HttpRequest, obj: DagRule | None = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.actor = actor(request)
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form has saved through the service."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        services.close_dags(rule=obj, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DagRule]) -> None:
        for rule in queryset:
            services.close_dags(rule=rule, actor=actor(request))
