"""What is kept of logins: failures, sessions of the API, and the log of both."""

from datetime import timedelta

from axes.models import AccessAttempt, AccessLog
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from graphs.models import clock

ATTEMPT_AGE = timedelta(days=1)  # more than the longest pause
LOG_AGE = timedelta(days=90)


def forget_old() -> None:
    """Delete old failures, old lines of the login log, and refresh tokens that have expired."""
    now = clock.now()
    AccessAttempt.objects.filter(attempt_time__lt=now - ATTEMPT_AGE).delete()
    AccessLog.objects.filter(attempt_time__lt=now - LOG_AGE).delete()
    OutstandingToken.objects.filter(expires_at__lt=now).delete()
