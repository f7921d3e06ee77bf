"""Operators' pages for users and sign-ins; what they change goes through the services."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from accounts import api_keys, audit, identities, services, tickets
from accounts.forms import AdminSignInForm
from accounts.models import ApiKey, AuditEntry, AuditHead, EndReason, Identity, Role, SignIn, Ticket, User
from svops.errors import SVOpsError

if TYPE_CHECKING:
    UserForm = AdminUserCreationForm[User]
    UserPages = DjangoUserAdmin[User]
    IdentityForm = ModelForm[Identity]
    IdentityPages = admin.ModelAdmin[Identity]
    SignInPages = admin.ModelAdmin[SignIn]
    ApiKeyPages = admin.ModelAdmin[ApiKey]
    TicketPages = admin.ModelAdmin[Ticket]
    AuditPages = admin.ModelAdmin[AuditEntry]
    HeadPages = admin.ModelAdmin[AuditHead]
else:
    UserForm, UserPages, SignInPages = AdminUserCreationForm, DjangoUserAdmin, admin.ModelAdmin
    IdentityForm, IdentityPages = ModelForm, admin.ModelAdmin
    ApiKeyPages = TicketPages = AuditPages = HeadPages = admin.ModelAdmin


admin.site.login_form = AdminSignInForm


class ShownOnly:
    """What is on these pages is made and changed by the services alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NewUserForm(UserForm):
    class Meta:
        model = User
        fields = ["username", "email", "name", "role"]


@admin.register(User)
class UserAdmin(UserPages):
    add_form = NewUserForm
    list_display = ["username", "email", "name", "role", "is_active", "last_login"]
    list_filter = ["role", "is_active", "groups"]
    search_fields = ["username", "email", "name"]
    ordering = ["username"]
    date_hierarchy = "date_joined"
    filter_horizontal = ["groups"]
    # Changed by the actions: a role and a shut account have consequences that a form would skip.
    readonly_fields = ["role", "is_active", "last_login", "date_joined"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["name", "email"]}),
        ("Access", {"fields": ["role", "is_active", "groups"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [
        (
            None,
            {
                "classes": ["wide"],
                "fields": ["username", "email", "name", "role", "usable_password", "password1", "password2"],
            },
        )
    ]
    actions = ["deactivate", "reactivate", "sign_out_everywhere", "make_viewer", "make_user", "make_admin"]

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record("user.created", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        # The form names the fields, the page for passwords says that it was that.
        self._record("user.changed", obj, {"change": message})
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[User]) -> Any:
        for user in queryset:
            self._record("user.deleted", user)
        return super().log_deletions(request, queryset)

    def _record(self, action: str, user: User, more: dict[str, Any] | None = None) -> None:
        with transaction.atomic():
            audit.record(action, user, after={**audit.facts_of(user, services.USER_FACTS), **(more or {})})

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        return self.readonly_fields if obj else []

    @admin.action(description="Deactivate, ending every session and token", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.deactivate(user=user))

    @admin.action(description="Activate again", permissions=["change"])
    def reactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.reactivate(user=user))

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.sign_out_everywhere(user=user))

    @admin.action(description="Make viewer", permissions=["change"])
    def make_viewer(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.change_role(user=user, role=Role.VIEWER))

    @admin.action(description="Make user", permissions=["change"])
    def make_user(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.change_role(user=user, role=Role.USER))

    @admin.action(description="Make admin", permissions=["change"])
    def make_admin(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.change_role(user=user, role=Role.ADMIN))

    def _each(self, request: HttpRequest, queryset: QuerySet[User], change: Callable[[User], object]) -> None:
        done = 0
        for user in queryset:
            try:
                change(user)
            except SVOpsError as exc:
                self.message_user(request, f"{user}: {exc}", messages.ERROR)
            else:
                done += 1
        if done:
            self.message_user(request, f"Done for {done}.", messages.SUCCESS)


@admin.register(Identity)
class IdentityAdmin(IdentityPages):
    """Adding one lets a person of the identity provider sign in as the user: how an existing account gets it."""

    list_display = ["subject", "issuer", "user", "created_at"]
    list_filter = ["issuer", "created_at"]
    list_select_related = ["user"]
    search_fields = ["subject", "user__username", "user__email"]
    date_hierarchy = "created_at"
    fields = ["user", "issuer", "subject"]
    autocomplete_fields = ["user"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"issuer": settings.OIDC_ISSUER}

    def has_change_permission(self, request: HttpRequest, obj: Identity | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Identity, form: IdentityForm, change: bool) -> None:
        obj.pk = identities.link(user=obj.user, issuer=obj.issuer, subject=obj.subject).pk

    def delete_model(self, request: HttpRequest, obj: Identity) -> None:
        identities.unlink(identity=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Identity]) -> None:
        for identity in queryset:
            identities.unlink(identity=identity)


@admin.register(SignIn)
class SignInAdmin(SignInPages):
    list_display = ["id", "user", "created_at", "refreshed_at", "expires_at", "ended_at", "end_reason"]
    list_filter = ["end_reason", "created_at", ("ended_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    date_hierarchy = "created_at"
    fields = ["id", "user", "created_at", "refreshed_at", "expires_at", "ended_at", "end_reason"]
    actions = ["end"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: SignIn | None = None) -> bool:
        return False

    @admin.action(description="End", permissions=["view"])
    def end(self, request: HttpRequest, queryset: QuerySet[SignIn]) -> None:
        for sign_in in queryset:
            services.end_sign_in(sign_in_id=sign_in.pk, reason=EndReason.REVOKED)
        self.message_user(request, f"Ended {len(queryset)}.", messages.SUCCESS)


@admin.register(ApiKey)
class ApiKeyAdmin(ShownOnly, ApiKeyPages):
    list_display = ["prefix", "name", "user", "scopes", "workflow_ids", "last_used_at", "expires_at", "revoked_at"]
    list_filter = ["created_at", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["prefix", "name", "user__username", "user__email"]
    fields = [
        "name", "user", "prefix", "scopes", "workflow_ids", "created_at", "expires_at", "last_used_at",
        "previous_until", "revoked_at",
    ]  # fmt: skip
    actions = ["revoke"]

    @admin.action(description="Revoke", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for api_key in queryset:
            api_keys.revoke_key(api_key=api_key)
        self.message_user(request, f"Revoked {len(queryset)}.", messages.SUCCESS)


@admin.register(Ticket)
class TicketAdmin(ShownOnly, TicketPages):
    list_display = ["prefix", "user", "api_key", "run_id", "actions", "created_at", "expires_at", "revoked_at"]
    list_filter = ["created_at", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user", "api_key"]
    search_fields = ["prefix", "user__username", "run_id"]
    fields = ["user", "api_key", "prefix", "workflow_id", "run_id", "actions", "created_at", "expires_at", "revoked_at"]
    actions = ["revoke"]

    @admin.action(description="Revoke", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Ticket]) -> None:
        for ticket in queryset:
            tickets.revoke_ticket(ticket=ticket)
        self.message_user(request, f"Revoked {len(queryset)}.", messages.SUCCESS)


@admin.register(AuditEntry)
class AuditEntryAdmin(ShownOnly, AuditPages):
    list_display = ["at", "actor", "via", "credential", "action", "object_type", "object_name", "address"]
    list_filter = ["action", "via", "object_type", "at"]
    search_fields = ["actor", "object_name", "object_id", "address", "request_id", "credential"]
    date_hierarchy = "at"
    show_full_result_count = False
    fields = [*AuditEntry.SEALED, "position", "hash"]


@admin.register(AuditHead)
class AuditHeadAdmin(ShownOnly, HeadPages):
    list_display = ["position", "hash"]
    fields = ["position", "hash"]
