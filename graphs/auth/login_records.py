"""What is kept of logins: failures, sessions of the API, and the log of both."""

from datetime import timedelta

from django.apps import apps

from graphs.models import clock

ATTEMPT_AGE = timedelta(days=1)  # more than the longest pause
LOG_AGE = timedelta(days=90)


def forget_old() -> None:
    """Delete old failures, old lines of the login log, and refresh tokens that have expired.

    A project may look after its logins by other means than django-axes and tokens.
    """
    now = clock.now()
    if apps.is_installed("axes"):
        apps.get_model("axes.AccessAttempt").objects.filter(
            attempt_time__lt=now - ATTEMPT_AGE
        ).delete()
        apps.get_model("axes.AccessLog").objects.filter(attempt_time__lt=now - LOG_AGE).delete()
    if apps.is_installed("rest_framework_simplejwt.token_blacklist"):
        apps.get_model("token_blacklist.OutstandingToken").objects.filter(
            expires_at__lt=now
        ).delete()
