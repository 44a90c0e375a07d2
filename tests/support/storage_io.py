"""Fails whatever reads or writes the storage of files within a transaction.

The storage may be slow, and a transaction keeps others from writing: on SQLite everybody.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.files.storage import FileSystemStorage, Storage
from django.db import connection
from django.db.transaction import Atomic

WATCHED = (
    (Storage, ("open", "save")),
    (FileSystemStorage, ("delete", "exists", "listdir", "size", "get_modified_time")),
)


def watch() -> None:
    """Watch all storages of this process from now on."""
    for storage, names in WATCHED:
        for name in names:
            setattr(storage, name, _watched(getattr(storage, name)))


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        assert not _in_transaction(), f"the storage's {method.__name__} within a transaction"
        return method(*args, **kwargs)

    return call


def _in_transaction() -> bool:
    """Whether the code under test began a transaction, within that of the test itself."""
    return any(not block._from_testcase for block in connection.atomic_blocks)


def transaction_of_the_test() -> Atomic:
    """A transaction that a test rolls back, in which the storage may be used."""
    block = Atomic(using=None, savepoint=True, durable=False)
    block._from_testcase = True  # as in Django's TestCase
    return block
