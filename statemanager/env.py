"""Typed readers of environment variables. A wrong value stops the start with a sentence.

Each reader takes the variable's name and a default; `NAME_FILE` may name a file that holds the
value (container secrets). The readers raise ImproperlyConfigured.
"""

import os
from pathlib import Path
from typing import Any

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """The variable as text, or the content of the file that `NAME_FILE` names."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE names a file that can't be read: {error}."
            ) from error
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool) -> bool:
    """A yes/no variable: 1 true yes on, or 0 false no off."""
    value = text(name).lower()
    if not value:
        return default
    if value not in _TRUE | _FALSE:
        raise ImproperlyConfigured(
            f"{name} must be one of 1, true, yes, on, 0, false, no, off; it is {value!r}."
        )
    return value in _TRUE


def number(name: str, default: float, minimum: float, maximum: float) -> float:
    """A number between the two bounds, both included."""
    value = text(name)
    try:
        result = float(value) if value else float(default)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number; it is {value!r}.") from None
    if not minimum <= result <= maximum:  # not a number is in no range
        raise ImproperlyConfigured(
            f"{name} must be between {minimum:g} and {maximum:g}; it is {value}."
        )
    return result


def integer(name: str, default: int, minimum: int, maximum: int) -> int:
    """A whole number between the two bounds, both included."""
    result = number(name, default, minimum, maximum)
    if result != int(result):
        raise ImproperlyConfigured(f"{name} must be a whole number; it is {text(name)!r}.")
    return int(result)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of some words."""
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}; it is {value!r}.")
    return value


def folder(name: str, path: Path) -> None:
    """Make sure that the folder is there and can be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{name} names a folder that can't be made: {error}.") from error
    if not os.access(path, os.W_OK):
        raise ImproperlyConfigured(f"{name} names a folder that can't be written: {path}.")


def words(name: str) -> list[str]:
    """A comma-separated list; blanks around the commas don't count."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def pairs(name: str) -> dict[str, str]:
    """name=value pairs, separated by commas."""
    found = [word.partition("=") for word in words(name)]
    if wrong := [key for key, equals, value in found if not (key and equals and value)]:
        raise ImproperlyConfigured(
            f"{name} holds name=value pairs, separated by commas; {wrong[0]!r} is none."
        )
    return {key.strip(): value.strip() for key, _, value in found}


def fernet_keys(name: str) -> list[str]:
    """A comma-separated list of keys for `cryptography.fernet`: 32 bytes each, in URL-safe base64."""
    for at, key in enumerate(words(name), 1):
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name}: key {at} is not 32 bytes in URL-safe base64 (openssl rand -base64 32 | tr '+/' '-_')."
            ) from None
    return words(name)


def database(name: str) -> dict[str, Any] | None:
    """A PostgreSQL or SQLite URL as Django's database settings; None when the variable is not set."""
    url = text(name)
    if not url:
        return None
    if url.split(":", 1)[0] not in {"postgres", "postgresql", "sqlite"}:
        raise ImproperlyConfigured(
            f"{name} must start with postgresql:// or sqlite:///; it starts with {url.split(':', 1)[0]!r}."
        )
    try:
        return dict(environ.Env.db_url_config(url))
    except Exception as error:
        raise ImproperlyConfigured(f"{name} is not a database URL: {error}.") from error
