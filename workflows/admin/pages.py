"""Parts of the admin pages: links, labels, filters, and the base classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _

from rest.errors import ConflictError, InvalidInputError, SVOpsError
from workflows.models import (
    Airflow,
    AirflowCommand,
)

if TYPE_CHECKING:
    from accounts.models import User

    ModelPages = admin.ModelAdmin[Any]
else:
    ModelPages = admin.ModelAdmin


MOST_AT_ONCE = 100  # an action calls Airflow once for each object, while the operator waits


EMPTY = "-"
CHECKBOX = '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">'


def page_link(obj: Model | None, text: str = "") -> str:
    """Return a link to the page of `obj`, or a dash."""
    if obj is None:
        return EMPTY
    url = reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])
    return format_html('<a href="{}">{}</a>', url, text or str(obj))


def list_link(model: type[Model], text: str, **lookups: Any) -> str:
    """Return a link to the list of `model`, filtered by `lookups`."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', url, urlencode(lookups), text)


def label(word: str, colour: str = "") -> SafeString:
    """Return `word` as a coloured label; the stylesheet has a colour for each state."""
    return format_html('<span class="label label-{}">{}</span>', colour or word, word)


def labels(*words: tuple[str, str]) -> SafeString:
    return format_html_join(" ", '<span class="label label-{}">{}</span>', ((colour, word) for word, colour in words))


def state_label(state: str, *, stale: bool = False, paused: bool = False, pausing: bool = False) -> SafeString:
    marks = [(state or "not scheduled", state or "none")]
    marks += [("paused", "warning")] if paused else []
    marks += [("pausing", "warning")] if pausing else []
    marks += [("stale", "warning")] if stale else []
    return labels(*marks)


def pretty(value: Any) -> SafeString:
    return format_html('<pre class="json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def short(value: Any, length: int = 80) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A text that fits is the rule, and Django takes longer to find that out.
    return text if len(text) <= length else Truncator(text).chars(length)


def command_label(command: AirflowCommand) -> SafeString:
    if command.finished_at is None:
        return label("pending", "warning" if command.last_error else "pending")
    return label("given up", "failed") if command.last_error else label("done", "success")


def lasted(duration: timedelta | None) -> str:
    return str(timedelta(seconds=round(duration.total_seconds()))) if duration is not None else EMPTY


def moment(field: str) -> Any:
    """Return a column for a time. It shows seconds, since operators compare times.

    The type is Any: the stubs allow callables as columns of a list, but not as fields of a page.
    """

    @admin.display(description=field.removesuffix("_at").replace("_", " "), ordering=field)
    def column(obj: Any) -> str:
        at: datetime | None = getattr(obj, field)
        return format_html('<span class="moment">{}</span>', f"{at:%Y-%m-%d %H:%M:%S}") if at else EMPTY

    column.__name__ = field
    return column


class ChoiceFilter(admin.SimpleListFilter):
    """Filters by one of `choices_`: value, title, condition. `unchosen` applies when none is chosen."""

    choices_: ClassVar[list[tuple[str, str, Q]]]
    unchosen: ClassVar[tuple[str, Q]] = ("All", Q())

    def lookups(self, request: HttpRequest, model_admin: ModelPages) -> list[tuple[str, str]]:
        return [(value, title) for value, title, _ in self.choices_]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        conditions = {value: condition for value, _, condition in self.choices_}
        return queryset.filter(conditions.get(self.value() or "", self.unchosen[1]))

    def choices(self, changelist: Any) -> Any:
        first, *rest = super().choices(changelist)
        yield first | {"display": self.unchosen[0]}
        yield from rest


class AirflowFilter(admin.SimpleListFilter):
    title, parameter_name = "Airflow", "airflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self._field = model_admin.names_airflow
        return [(name, name) for name in airflows_of(request)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{f"{self._field}__name": self.value()}) if self.value() else queryset


def actor(request: HttpRequest) -> User:
    return cast("User", request.user)


class Pages(ModelPages):
    """Base of all pages: warns while Airflow does not answer, and names the object of each refusal."""

    show_full_result_count = False  # runs and events grow without bound
    # Where a row names its Airflow. A column and a filter show it as soon as there are several.
    names_airflow = ""
    list_per_page = 50

    class Media:
        css = {"all": ["workflows/admin.css"]}

    def annotations(self) -> dict[str, Any]:
        """Return the annotations for the columns, so that no row needs its own query."""
        return {}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).annotate(**self.annotations())
        return rows

    def get_list_display(self, request: HttpRequest) -> Any:
        first, *others = super().get_list_display(request)
        return [first, "of_airflow", *others] if self.names_airflow and _has_several(request) else [first, *others]

    def get_list_filter(self, request: HttpRequest) -> Any:
        filters = super().get_list_filter(request)
        return [AirflowFilter, *filters] if self.names_airflow and _has_several(request) else filters

    def action_checkbox(self, obj: Any) -> SafeString:
        """Write Django's own box without the two templates of its widget, which are a fifth of the time of a page."""
        about = _("Select this object for an action - {}").format(obj)
        return format_html(CHECKBOX, ACTION_CHECKBOX_NAME, obj.pk, about)

    @admin.display(description="Airflow")
    def of_airflow(self, obj: Any) -> str:
        *way, column = self.names_airflow.split("__")
        for step in way:
            obj = getattr(obj, step)
        return str(getattr(obj, f"{column}_id"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, _freshness(request) | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        return super().render_change_form(request, context | _freshness(request), *args, **kwargs)

    def each(self, request: HttpRequest, objects: QuerySet[Any], act: Callable[[Any], str]) -> None:
        """Call `act` for each object and show each result. A refusal does not stop the others."""
        chosen = list(objects[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            self.message_user(request, f"Choose at most {MOST_AT_ONCE} at once. Nothing has changed.", messages.ERROR)
            return
        for obj in chosen:
            level, text = _outcome(obj, act)
            self.message_user(request, f"{capfirst(self.opts.verbose_name)} {obj}: {text}", level)


def airflows_of(request: HttpRequest) -> dict[str, Airflow]:
    """Return what is known of each Airflow. It is read once for a page."""
    if not hasattr(request, "airflows"):
        request.airflows = Airflow.by_name()  # type: ignore[attr-defined]
    known: dict[str, Airflow] = request.airflows  # type: ignore[attr-defined]
    return known


def _has_several(request: HttpRequest) -> bool:
    return len(airflows_of(request)) > 1


def _freshness(request: HttpRequest) -> dict[str, Any]:
    now, known = timezone.now(), airflows_of(request).values()
    stale = [airflow for airflow in known if airflow.is_active and airflow.is_stale(now)]
    return {"stale_airflows": stale, "has_several_airflows": _has_several(request)}


def _outcome(obj: Any, act: Callable[[Any], str]) -> tuple[int, str]:
    try:
        return messages.SUCCESS, act(obj)
    except ConflictError as exc:
        return messages.WARNING, str(exc)
    except InvalidInputError as exc:
        return messages.ERROR, " ".join([str(exc), *_sentences(exc.errors)])
    except SVOpsError as exc:
        return messages.ERROR, str(exc)


def _sentences(errors: Mapping[str, list[str]]) -> list[str]:
    return [f"{field}: {' '.join(texts)}" for field, texts in errors.items()]


class ReadOnlyPages(Pages):
    """Pages that only show: the services change these rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
