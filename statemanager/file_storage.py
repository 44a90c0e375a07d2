"""The storage of datasets and of the files of runs: STORAGE or FILES_DIR of the settings."""

from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.functional import LazyObject

from statemanager.conf import conf


class FileStorage(LazyObject):
    """It is chosen at its first use."""

    def _setup(self) -> None:
        self._wrapped: Any = _chosen()


def _chosen() -> Storage:
    if conf.STORAGE:
        return storages[conf.STORAGE]
    if not conf.FILES_DIR:
        raise ImproperlyConfigured(
            "Set FILES_DIR in STATE_MANAGER to a folder for datasets and the files of runs, or "
            "STORAGE to an alias of STORAGES. No web server may serve it."
        )
    return FileSystemStorage(
        conf.FILES_DIR, file_permissions_mode=0o640, directory_permissions_mode=0o750
    )


file_storage = cast(Storage, FileStorage())
