"""`doctor` says at once that the file storage is another one."""

import pytest
from django.core.files.storage import default_storage

from runs.health import storage
from runs.models import Artifact, Installation

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    """An empty storage of this test."""

    def use(name):
        files = tmp_path / name
        files.mkdir(exist_ok=True)
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": str(files)},
            },
        }
        return files

    use("first")
    return use


def reported():
    return [finding.message for finding in storage.findings()]


def test_a_storage_without_the_marker_is_another_one(folder):
    assert reported() == [], "nothing was stored yet"
    storage.mark()
    assert reported() == []
    assert default_storage.exists(storage.MARKER)
    folder("second")
    assert "has no file statemanager-installation" in reported()[0]
    storage.mark()
    assert not default_storage.exists(storage.MARKER), "it is not marked again by itself"
    folder("first")
    assert reported() == []


def test_a_storage_of_another_installation(folder):
    storage.mark()
    (folder("second") / storage.MARKER).write_text("another")
    assert "belongs to the installation 'another'" in reported()[0]


def test_a_storage_without_the_files_of_the_database_is_not_marked(run_graph, folder):
    run_graph("a", kinds={"a": "test.emit"})
    assert Artifact.objects.exists()
    folder("second")
    storage.mark()
    assert not Installation.objects.get().is_marked
    folder("first")
    storage.mark()
    assert Installation.objects.get().is_marked
