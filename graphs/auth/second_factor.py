"""The second factor of a login: a code of an authenticator app, or a recovery code.

Codes are time-based one-time passwords (TOTP, https://www.rfc-editor.org/rfc/rfc6238). django-otp
checks them, takes each one only once, and refuses to check for a growing time after wrong ones.
"""

from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django_otp import verify_token
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

RECOVERY_CODES = 8
APP, RECOVERY = "authenticator app", "recovery codes"  # names of devices


def is_set_up(user: AbstractUser) -> bool:
    return bool(TOTPDevice.objects.devices_for_user(user, confirmed=True).exists())


def verify(user: AbstractUser, code: str) -> Device | None:
    """The device that the code is from; None for a wrong code. A recovery code is used up."""
    code = code.replace(" ", "").lower()
    kind = TOTPDevice if code.isdigit() else StaticDevice
    device = kind.objects.devices_for_user(user, confirmed=True).first()
    return verify_token(user, device.persistent_id, code) if device else None


@transaction.atomic
def begin(user: AbstractUser) -> TOTPDevice:
    """A device with a new key, which counts when a code of it was given to `confirm`."""
    TOTPDevice.objects.devices_for_user(user, confirmed=False).delete()
    return TOTPDevice.objects.create(user=user, name=APP, confirmed=False)


def begun(user: AbstractUser) -> TOTPDevice | None:
    return TOTPDevice.objects.devices_for_user(user, confirmed=False).first()


def confirm(user: AbstractUser, code: str) -> tuple[TOTPDevice, list[str]] | None:
    """End the set-up with a code of the new device; None for a wrong code.

    Returns the device and the recovery codes, each of which is good for one login.
    """
    device = begun(user)
    verified = verify_token(user, device.persistent_id, code.replace(" ", "")) if device else None
    if verified is None:
        return None
    with transaction.atomic():
        remove(user)
        verified.confirmed = True
        verified.save()
        codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
        recovery = StaticDevice.objects.create(user=user, name=RECOVERY)
        recovery.token_set.bulk_create(StaticToken(device=recovery, token=code) for code in codes)
    return verified, codes


@transaction.atomic
def remove(user: AbstractUser) -> None:
    """Logins of the account need no code any more."""
    TOTPDevice.objects.devices_for_user(user, confirmed=True).delete()
    StaticDevice.objects.devices_for_user(user).delete()
