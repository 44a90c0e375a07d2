"""Whether the file storage is the one in which the files of this database are.

A file in the storage has the id of the installation, which the database has, too. A volume that is
not mounted, or the bucket of another site, lacks it or has another one.
"""

from collections.abc import Iterator

from django.core.files.base import ContentFile

from graphs.models import DatasetTable
from runs.health.probes import Finding
from runs.models import Artifact, Installation
from statemanager.conf import conf
from statemanager.file_storage import file_storage

MARKER = "statemanager-installation"
MAX_MARKER = 100  # bytes that are read of it


def mark() -> None:
    """Write the marker at the first use of a storage.

    A storage that lacks the files of the database is not the right one, and gets no marker.
    """
    installation, _ = Installation.objects.get_or_create(pk=Installation.SINGLE)
    if installation.is_marked or _newest_is_missing():
        return
    if not file_storage.exists(MARKER):
        file_storage.save(MARKER, ContentFile(str(installation.storage_id)))
    if _stored_id() == str(installation.storage_id):
        Installation.objects.filter(pk=installation.pk).update(is_marked=True)


def findings() -> Iterator[Finding]:
    """Find a storage that isn't the one that was marked."""
    installation = Installation.objects.first()
    if installation is None:
        return
    stored = _stored_id()
    if stored == str(installation.storage_id) or not (stored or installation.is_marked):
        return
    fault = f"belongs to the installation {stored!r}" if stored else f"has no file {MARKER}"
    yield Finding(
        "error",
        f"The file storage ({conf.FILES_DIR}) {fault}, so it is not the one in which the files of"
        f" this database ({installation.storage_id}) were stored.",
        "Check that FILES_DIR is the right folder and that its volume is mounted. If you copied"
        f" the database on purpose, write its id into the file {MARKER} of the new storage.",
    )


def _stored_id() -> str:
    """What the marker says; "" if there is none."""
    try:
        with file_storage.open(MARKER, "rb") as marker:
            return marker.read(MAX_MARKER).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""


def _newest_is_missing() -> bool:
    """Whether the database names a file that the storage lacks."""
    newest = [model.objects.order_by("-pk").values_list("file", flat=True)[:1] for model in MODELS]
    names = [name for names in newest for name in names]
    return not all(file_storage.exists(name) for name in names)


MODELS = (Artifact, DatasetTable)
