"""What `manage.py check` says of settings that can't work."""

import pytest
from django.core import checks
from django.db import connection
from django.test import modify_settings

from statemanager.conf import NAMES, TYPES, Conf
from statemanager.conf import conf as settings_of_state_manager


def found(**options):
    messages = checks.run_checks(**options)
    return {message.id: message for message in messages if message.id.startswith("statemanager")}


def test_the_settings_of_this_project_are_sound():
    assert found() == {}


def test_each_setting_has_a_type_and_a_default_that_fits_it():
    assert TYPES.keys() == NAMES
    for name in NAMES:
        assert isinstance(getattr(Conf(), name), TYPES[name]), name


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE_SECOND", 5, "Did you mean LEASE_SECONDS?"),
        ("FLAVOUR", 5, "docs/settings.md lists them."),
    ],
)
def test_a_setting_that_does_not_exist_is_named(conf, name, value, said):
    setattr(conf, name, value)
    error = found()["statemanager.E003"]
    assert (error.msg, error.hint) == (f"STATE_MANAGER has no setting {name!r}.", said)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "4"),
        ("WORKERS", True),
        ("LEASE_SECONDS", "30"),
        ("SECRETS_KEYS", "one key"),
        ("PUBLIC_URL", None),
        ("LANGGRAPH_APPS", ["a.b"]),
        ("ALLOW_PRIVATE_ADDRESSES", 1),
    ],
)
def test_a_setting_of_another_type_is_named(conf, name, value):
    setattr(conf, name, value)
    assert f"{name} in STATE_MANAGER must be" in found()["statemanager.E004"].msg


def test_a_setting_that_is_not_given_has_its_default(settings):
    settings.STATE_MANAGER = {"LEASE_SECONDS": 60}
    assert settings_of_state_manager.HEARTBEAT_SECONDS == 20
    assert settings_of_state_manager.WORKER_LEASE_SECONDS == 900


def test_files_need_a_place_that_nobody_serves(conf, settings, tmp_path):
    conf.STORAGE = ""
    conf.FILES_DIR = ""
    assert "names no folder" in found()["statemanager.E005"].msg
    settings.MEDIA_ROOT = str(tmp_path)
    conf.FILES_DIR = tmp_path / "runs"
    assert "that web servers serve" in found()["statemanager.E006"].msg
    conf.FILES_DIR = tmp_path.parent / "files"
    assert found() == {}


@modify_settings(INSTALLED_APPS={"remove": ["django.contrib.humanize"]})
def test_an_app_that_is_missing_is_named():
    assert "needs django.contrib.humanize" in found()["statemanager.E007"].msg


@pytest.mark.only_on("sqlite")
@pytest.mark.django_db
def test_sqlite_must_lock_at_the_beginning(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", None)
    assert "statemanager.E008" in found(databases=["default"])
