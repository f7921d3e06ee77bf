"""Admin pages for users, sign-ins and credentials. They change rows through the services."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import FilteredSelectMultiple
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponseRedirect

from accounts import api_keys, identities, services, tickets
from accounts.forms import AdminSignInForm
from accounts.models import ApiKey, AuditEntry, AuditHead, EndReason, Identity, Role, SignIn, Ticket, User
from rest.errors import InvalidInputError, SVOpsError

if TYPE_CHECKING:
    UserForm = AdminUserCreationForm[User]
    ChangeForm = UserChangeForm[User]
    SetPasswordForm = AdminPasswordChangeForm[User]
    GroupFields = ModelForm[Group]
    GroupPages = admin.ModelAdmin[Group]
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
    ChangeForm, SetPasswordForm, GroupFields = UserChangeForm, AdminPasswordChangeForm, ModelForm
    IdentityForm, IdentityPages, GroupPages = ModelForm, admin.ModelAdmin, admin.ModelAdmin
    ApiKeyPages = TicketPages = AuditPages = HeadPages = admin.ModelAdmin


admin.site.login_form = AdminSignInForm


class ReadOnly:
    """Pages that only show rows. The services alone create and change them."""

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

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        _show_taken(self, cleaned)
        return cleaned


class ChangeUserForm(ChangeForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        _show_taken(self, cleaned)
        return cleaned


def _show_taken(form: Any, cleaned: dict[str, Any]) -> None:
    """Show the refusal of a taken name or address at its field."""
    if form.errors:
        return
    wanted = User(pk=form.instance.pk, username=User.normalize_username(cleaned["username"]), email=cleaned["email"])
    try:
        services.refuse_taken(wanted)
    except InvalidInputError as exc:
        for field, texts in exc.errors.items():
            form.add_error(field, texts)


class PasswordForm(SetPasswordForm):
    """Sets the password through the service."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned["set_usable_password"]:
            try:
                services.refuse_no_password(user=self.user)
            except SVOpsError as exc:
                self.add_error("usable_password", str(exc))
        return cleaned

    def save(self, commit: bool = True) -> User:
        password = self.cleaned_data["password1"] if self.cleaned_data["set_usable_password"] else None
        self.user = services.set_password(user=self.user, password=password)
        return self.user


class Confirming:
    """Deletes through a service, one object after the other. A refusal deletes nothing and is shown."""

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)  # type: ignore[misc]
        except SVOpsError as exc:
            return self._refused(request, exc)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            with transaction.atomic():
                return super().changelist_view(request, extra_context)  # type: ignore[misc]
        except SVOpsError as exc:
            return self._refused(request, exc)

    def _refused(self, request: HttpRequest, refusal: SVOpsError) -> HttpResponseRedirect:
        messages.error(request, f"Nothing was deleted. {refusal}")
        return HttpResponseRedirect(request.get_full_path().removesuffix("delete/"))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)  # type: ignore[attr-defined]


@admin.register(User)
class UserAdmin(Confirming, UserPages):
    form = ChangeUserForm
    add_form = NewUserForm
    change_password_form = PasswordForm
    list_display = ["username", "email", "name", "role", "is_active", "last_login"]
    list_filter = ["role", "is_active", "groups"]
    search_fields = ["username", "email", "name"]
    ordering = ["username"]
    date_hierarchy = "date_joined"
    filter_horizontal = ["groups"]
    # The actions change these: a new role or a deactivation has consequences that a form would skip.
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
    actions = [
        "deactivate",
        "reactivate",
        "sign_out_everywhere",
        "remove_second_factor",
        "make_viewer",
        "make_user",
        "make_admin",
    ]

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if change:
            services.edit(user=obj, username=obj.username, name=obj.name, email=obj.email)
        else:
            services.add_user(obj)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        if "groups" in form.cleaned_data:
            services.set_groups(user=form.instance, groups=form.cleaned_data["groups"])

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        services.delete(user=obj)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        return self.readonly_fields if obj else []

    @admin.action(description="Deactivate and end every session and token", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.deactivate(user=user))

    @admin.action(description="Reactivate", permissions=["change"])
    def reactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.reactivate(user=user))

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.sign_out_everywhere(user=user))

    @admin.action(description="Remove the second factor", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._each(request, queryset, lambda user: services.remove_factor(user=user))

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


class GroupForm(GroupFields):
    members = forms.ModelMultipleChoiceField(
        User.objects.all(), required=False, widget=FilteredSelectMultiple("members", is_stacked=False)
    )

    class Meta:
        model = Group
        # Permissions of Django have no meaning here: what a group may do are its grants.
        fields = ["name"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["members"].initial = self.instance.user_set.all()

    def clean_name(self) -> str:
        try:
            services.refuse_alike(self.instance, self.cleaned_data["name"])
        except InvalidInputError as exc:
            raise forms.ValidationError(exc.errors["name"]) from exc
        return str(self.cleaned_data["name"])


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(Confirming, GroupPages):
    form = GroupForm
    list_display = ["name", "members_"]
    search_fields = ["name"]
    ordering = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).prefetch_related("user_set")

    @admin.display(description="members")
    def members_(self, group: Group) -> str:
        return ", ".join(user.username for user in group.user_set.all())

    def save_model(self, request: HttpRequest, obj: Group, form: Any, change: bool) -> None:
        services.save_group(group=obj, name=form.cleaned_data["name"], members=form.cleaned_data["members"])

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: the service has saved the members."""

    def delete_model(self, request: HttpRequest, obj: Group) -> None:
        services.delete_group(group=obj)


@admin.register(Identity)
class IdentityAdmin(IdentityPages):
    """Adding an identity links an existing account: the person at the identity provider can sign in as the user."""

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
class ApiKeyAdmin(ReadOnly, ApiKeyPages):
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
class TicketAdmin(ReadOnly, TicketPages):
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
class AuditEntryAdmin(ReadOnly, AuditPages):
    list_display = ["at", "actor", "via", "credential", "action", "object_type", "object_name", "address"]
    list_filter = ["action", "via", "object_type", "at"]
    search_fields = ["actor", "object_name", "object_id", "address", "request_id", "credential"]
    date_hierarchy = "at"
    show_full_result_count = False
    fields = [*AuditEntry.SEALED, "position", "hash"]


@admin.register(AuditHead)
class AuditHeadAdmin(ReadOnly, HeadPages):
    list_display = ["position", "hash"]
    fields = ["position", "hash"]
