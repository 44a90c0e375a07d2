"""What the admin shows, hides and changes of other apps, and its page of accounts."""

from axes.admin import AccessAttemptAdmin
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import AbstractUser, Group
from django.db.models import QuerySet
from django.http import HttpRequest

from graphs.auth import refresh_tokens, second_factor

admin.site.site_header = admin.site.site_title = "State Manager"
admin.site.index_title = "Overview"

# The pages of django-q2 could run any pickled call again, and hints tell a reader nothing. Those of
# refresh tokens and of second factors show what logins need.
HIDDEN_APPS = ("django_q", "token_blacklist", "otp_totp", "otp_static")
for model in list(admin.site._registry):
    if model._meta.app_label in HIDDEN_APPS:
        admin.site.unregister(model)

Account = get_user_model()
admin.site.unregister(Account)
# Its action fails for requests that are no logins. The supervisor forgets old attempts.
AccessAttemptAdmin.actions = []


admin.site.unregister(Group)


@admin.register(Group)
class RightsOfGroupsAdmin(GroupAdmin):
    """Only superusers say what the members of a group may do."""

    def get_readonly_fields(
        self, request: HttpRequest, obj: Group | None = None
    ) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, "permissions")


@admin.register(Account)
class AccountAdmin(UserAdmin):
    """Only superusers make others superusers, or change what a superuser is and has."""

    actions = ("remove_second_factor",)

    @admin.action(description="Remove the second factor", permissions=["remove_factor"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[AbstractUser]) -> None:
        """For people who have lost it. Their refresh tokens end, too."""
        for user in queryset:
            second_factor.remove(user)
            refresh_tokens.end_tokens(user)
        messages.success(request, f"Accounts without a second factor now: {len(queryset)}.")

    def get_readonly_fields(
        self, request: HttpRequest, obj: AbstractUser | None = None
    ) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        rights = ("is_superuser", "groups", "user_permissions")
        return fields if request.user.is_superuser else (*fields, *rights)

    def has_change_permission(self, request: HttpRequest, obj: AbstractUser | None = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: AbstractUser | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and _may_touch(request, obj)

    def has_remove_factor_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)


def _may_touch(request: HttpRequest, account: AbstractUser | None) -> bool:
    is_superuser = account is not None and account.is_superuser
    return bool(request.user.is_superuser) or not is_superuser
