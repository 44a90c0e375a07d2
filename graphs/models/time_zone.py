"""The time zones in which users see times."""

from django.conf import settings
from django.db import models


class UserTimeZone(models.Model):
    """The time zone that a user chose. Others see times in the zone of their browser."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+"
    )
    name = models.CharField(max_length=64)

    class Meta:
        app_label = "statemanager_graphs"

    def __str__(self) -> str:
        return self.name
