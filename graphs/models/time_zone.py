"""The time zones in which users see times."""

from functools import cache
from zoneinfo import available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models


@cache
def names() -> frozenset[str]:
    """The names of all time zones."""
    return frozenset(available_timezones())


def check_time_zone(name: str) -> None:
    """Raises ValidationError unless there is such a time zone."""
    if name not in names():
        raise ValidationError(
            f"There is no time zone {name[:40]!r}. Use a name such as Asia/Tokyo."
        )


class UserTimeZone(models.Model):
    """The time zone that a user chose. Others see times in the zone of their browser."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+"
    )
    name = models.CharField(max_length=64, validators=[check_time_zone])

    class Meta:
        app_label = "statemanager_graphs"

    def __str__(self) -> str:
        return self.name
