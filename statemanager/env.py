"""Typed readers of environment variables, used by the settings.

Each reader takes the name of a variable. If `NAME_FILE` is set, the value is read from the file
that it names, which is how containers provide secrets. An empty variable counts as not set.

For a wrong value, the readers raise ImproperlyConfigured, which stops the start with a message that
says what to set.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import environ
import psycopg
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_DATABASE_SCHEMES = {"postgres", "postgresql", "sqlite"}
_OWN_OPTIONS = {"options", "user", "password", "host", "port", "dbname"}  # not in the query


def text(name: str, default: str = "") -> str:
    """The value without surrounding whitespace."""
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "").strip() or default
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{name}_FILE names a file that can't be read: {error}."
        ) from error


def flag(name: str, default: bool) -> bool:
    """A yes or no: one of 1, true, yes, on, or one of 0, false, no, off."""
    value = text(name).lower()
    if not value:
        return default
    if value not in _TRUE | _FALSE:
        raise ImproperlyConfigured(
            f"{name} must be one of 1, true, yes, on, 0, false, no, off; it is {value!r}."
        )
    return value in _TRUE


def number(name: str, default: float, minimum: float, maximum: float) -> float:
    """A number from `minimum` to `maximum`, both included."""
    value = text(name)
    try:
        result = float(value) if value else float(default)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number; it is {value!r}.") from None
    if not minimum <= result <= maximum:  # this also refuses NaN
        raise ImproperlyConfigured(
            f"{name} must be between {minimum:g} and {maximum:g}; it is {value}."
        )
    return result


def integer(name: str, default: int, minimum: int, maximum: int) -> int:
    """A whole number from `minimum` to `maximum`, both included."""
    result = number(name, default, minimum, maximum)
    if result != int(result):
        raise ImproperlyConfigured(f"{name} must be a whole number; it is {text(name)!r}.")
    return int(result)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed values."""
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}; it is {value!r}.")
    return value


def strings(name: str) -> list[str]:
    """The items of a comma-separated list, without whitespace around them."""
    return [item.strip() for item in text(name).split(",") if item.strip()]


def pairs(name: str) -> dict[str, str]:
    """A comma-separated list of name=value pairs."""
    result = {}
    for item in strings(name):
        key, _, value = item.partition("=")
        if not key or not value:
            raise ImproperlyConfigured(
                f"{name} must be a comma-separated list of name=value pairs; {item!r} is not one."
            )
        result[key.strip()] = value.strip()
    return result


def fernet_keys(name: str) -> list[str]:
    """A comma-separated list of keys for `cryptography.fernet`."""
    keys = strings(name)
    for position, key in enumerate(keys, 1):
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                f"Key {position} of {name} must be 32 bytes in URL-safe base64. "
                "Make one with: openssl rand -base64 32 | tr '+/' '-_'"
            ) from None
    return keys


def database(name: str) -> Mapping[str, object] | None:
    """The database settings for a PostgreSQL or SQLite URL, or None if the variable is not set."""
    url = text(name)
    if not url:
        return None
    scheme = url.split(":", 1)[0]
    if scheme not in _DATABASE_SCHEMES:
        raise ImproperlyConfigured(
            f"{name} must start with postgresql:// or sqlite:///; it starts with {scheme!r}."
        )
    try:
        return {**environ.Env.db_url_config(url), "OPTIONS": {}}
    except Exception as error:
        raise ImproperlyConfigured(f"{name} is not a database URL: {error}.") from error


def database_options(name: str) -> dict[str, str]:
    """The connection options in the query of a PostgreSQL URL, such as `?sslmode=verify-full`.

    They are libpq's (https://www.postgresql.org/docs/current/libpq-connect.html). An option that
    libpq doesn't know stops the start: one that is dropped silently, such as a misspelt sslmode,
    would make a connection less safe than it was meant to be. So does `options`, which State
    Manager sets itself.
    """
    query = urlsplit(text(name)).query
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    unknown = sorted(options.keys() - (known - _OWN_OPTIONS))
    if unknown:
        raise ImproperlyConfigured(
            f"{name} has options that can't be used: {', '.join(unknown)}. Use libpq's parameters, "
            "such as sslmode, sslrootcert or connect_timeout."
        )
    return options


def mail(name: str) -> Mapping[str, object]:
    """The mail settings for a URL such as smtp+tls://user:password@host:587; none if not set."""
    url = text(name)
    if not url:
        return {}
    try:
        return dict(environ.Env.email_url_config(url))
    except Exception as error:
        raise ImproperlyConfigured(
            f"{name} is not a mail URL such as smtp+tls://user:password@host:587: {error!r}."
        ) from error


def ensure_folder(name: str, path: Path) -> None:
    """Create a folder if necessary, and check that files can be written to it.

    `name` is the variable that sets the folder. Only the owner may enter a folder that this
    creates.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"{name} names a folder that can't be created: {error}."
        ) from error
    if not os.access(path, os.W_OK):
        raise ImproperlyConfigured(
            f"{name} names a folder that can't be written to: {path}. "
            "Change its permissions or name another folder."
        )


def ensure_private_file(name: object) -> None:
    """Create a database file that only its owner may read, or make an existing one so.

    Nothing happens to a file of somebody else, to one in a folder that doesn't exist, and to
    databases that are no plain files.
    """
    path = Path(str(name))
    if path.name == ":memory:" or str(name).startswith("file:"):
        return
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
