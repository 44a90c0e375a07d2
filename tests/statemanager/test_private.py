"""What stays private: files on disk, pages in caches, and a site with a weak key."""

import os
import stat
import subprocess
import sys

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.test import Client

SITE = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "SECRET_KEY": "k" * 50,
    "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
    "ALLOWED_HOSTS": "example.org",
}


def import_settings(tmp_path, code="", **variables):
    """Import the settings in a process with these variables only, and run the code."""
    return subprocess.run(
        [sys.executable, "-c", f"from statemanager import settings; {code}"],
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "made" / "var"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_reads_what_an_installation_stores(tmp_path):
    done = import_settings(tmp_path)
    assert done.returncode == 0, done.stderr
    var = tmp_path / "made" / "var"
    assert mode(var) == 0o700
    assert mode(var / "db.sqlite3") == 0o600
    assert mode(var / "secret.key") == mode(var / "secrets.key") == 0o600

    (var / "db.sqlite3").chmod(0o644)  # from an earlier release
    import_settings(tmp_path)
    assert mode(var / "db.sqlite3") == 0o600


def test_uploads_are_readable_by_the_owner_only(tmp_path, settings):
    settings.FILE_UPLOAD_PERMISSIONS = 0o600
    settings.FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700
    storage = FileSystemStorage(location=tmp_path)
    storage.save("datasets/1/a.csv", ContentFile(b"a\n"))
    assert mode(tmp_path / "datasets" / "1" / "a.csv") == 0o600
    assert mode(tmp_path / "datasets" / "1") == 0o700
    modes = "print(oct(settings.FILE_UPLOAD_PERMISSIONS))"
    assert import_settings(tmp_path, modes).stdout.strip() == "0o600"
    assert import_settings(tmp_path, modes, **SITE).stdout.strip() == "0o640"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"SECRET_KEY": "short"}, "SECRET_KEY has 5 characters"), ({"DEBUG": "1"}, "DEBUG shows")],
)
def test_a_site_with_a_weak_key_or_debug_pages_does_not_start(tmp_path, wrong, message):
    done = import_settings(tmp_path, **{**SITE, **wrong})
    assert done.returncode != 0
    assert message in done.stderr
    assert import_settings(tmp_path, **SITE).returncode == 0


def test_other_hosts_of_the_domain_are_left_alone_unless_asked(tmp_path):
    code = "print(settings.SECURE_HSTS_INCLUDE_SUBDOMAINS, settings.SECURE_HSTS_PRELOAD)"
    assert import_settings(tmp_path, code, **SITE).stdout.split() == ["False", "False"]
    asked = {"HSTS_SUBDOMAINS": "1", "HSTS_PRELOAD": "1"}
    assert import_settings(tmp_path, code, **SITE, **asked).stdout.split() == ["True", "True"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/admin/login/", "/admin/", "/healthz", "/v0/namespace/alpha/graphs", "/nowhere"]
)
def test_answers_are_kept_out_of_caches(path):
    response = Client().get(path)
    assert response["Cache-Control"] in ("no-store", _NEVER_CACHED)
    assert "camera=()" in response["Permissions-Policy"]


_NEVER_CACHED = "max-age=0, no-cache, no-store, must-revalidate, private"  # the admin's own


@pytest.mark.django_db
def test_static_files_may_be_cached():
    response = Client().get("/static/run_manager/manager.css")
    assert response.status_code == 200
    assert "no-store" not in response.headers.get("Cache-Control", "")
    response.close()
