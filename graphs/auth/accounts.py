"""What ends with an account: its API keys. `graphs.auth.refresh_tokens` ends its tokens.

Access tokens and sessions of an account that is gone or inactive are refused at each request.
"""

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver

from graphs.auth import api_keys
from graphs.models import ApiKey


@receiver(post_save, sender=settings.AUTH_USER_MODEL)
def end_inactive(instance: AbstractBaseUser, **_: object) -> None:
    """An account that was deactivated doesn't get its keys back when it is activated again."""
    if not instance.is_active:
        end_access(instance)


@receiver(pre_delete, sender=settings.AUTH_USER_MODEL)
def end_deleted(instance: AbstractBaseUser, **_: object) -> None:
    end_access(instance)


def end_access(user: AbstractBaseUser) -> None:
    """Revoke the API keys that the account made."""
    api_keys.revoke(ApiKey.objects.filter(created_by=user.pk))
