"""The admin, whose forms and actions leave audit entries, whatever they change."""

from collections.abc import Iterable
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from django.contrib import admin
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse

from graphs.web.audited_admin import Audited
from graphs.web.page_guard import caller_of
from runs.models import AuditEntry
from statemanager import logins
from statemanager.second_factor import LoginForm


class AuditedSite(admin.AdminSite):
    """Makes every page of a model an audited one, those of other apps, too."""

    login_form = LoginForm
    login_template = "admin/sign_in.html"
    enable_nav_sidebar = False  # `runs.manager.navigation` takes its place

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[admin.ModelAdmin] | None = None,
        **options: Any,
    ) -> None:
        admin_class = admin_class or admin.ModelAdmin
        if not issubclass(admin_class, Audited):
            admin_class = type(admin_class.__name__, (Audited, admin_class), {})
        super().register(model_or_iterable, admin_class, **options)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """The page on which people change their own passwords.

        A wrong old password counts as a failed login: somebody may have found an open session.
        """
        if request.method != "POST":
            return super().password_change(request, extra_context)
        credentials = {"username": request.user.get_username()}
        if not AxesProxyHandler.is_allowed(request, credentials):
            request.axes_credentials = credentials  # type: ignore[attr-defined]
            return logins.locked_out(request, None, credentials)  # type: ignore[return-value]
        with transaction.atomic():
            response = super().password_change(request, extra_context)
            if response.status_code == 302:
                AuditEntry.objects.record_global(caller_of(request), "password", "changed")
        if response.status_code == 200 and _is_wrong_password(response):
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
        return response


def _is_wrong_password(response: TemplateResponse) -> bool:
    form = (response.context_data or {})["form"]
    return bool(form.has_error("old_password", "password_incorrect"))
