"""The refresh tokens of accounts, and what ends them. For projects that offer `/token`."""

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from graphs.auth.tokens import claims_of


@receiver(post_save, sender=settings.AUTH_USER_MODEL)
def end_inactive(instance: AbstractBaseUser, **_: object) -> None:
    """An account that was deactivated doesn't get its tokens back when it is activated again."""
    if not instance.is_active:
        end_tokens(instance)


@receiver(pre_delete, sender=settings.AUTH_USER_MODEL)
def end_deleted(instance: AbstractBaseUser, **_: object) -> None:
    end_tokens(instance)


def end_tokens(user: AbstractBaseUser) -> int:
    """End all refresh tokens of the account. Returns how many of them were still good."""
    tokens = OutstandingToken.objects.filter(user=user.pk, blacklistedtoken=None)
    ended = [BlacklistedToken(token=token) for token in tokens]
    BlacklistedToken.objects.bulk_create(ended, ignore_conflicts=True)
    return len(ended)


def end_family(user: AbstractBaseUser, family: str) -> int:
    """End the account's refresh tokens that follow from one login. Returns how many were good."""
    tokens = OutstandingToken.objects.filter(user=user.pk, blacklistedtoken=None)
    ended = [
        BlacklistedToken(token=token)
        for token in tokens
        if family and family in (token.jti, claims_of(token.token).get("family"))
    ]
    BlacklistedToken.objects.bulk_create(ended, ignore_conflicts=True)
    return len(ended)
