"""The fields of a graph's settings that limit its runs."""

import pytest

from graphs.editor.settings_form import SettingsForm

GRAPH = {"nodes": [], "edges": []}


def changed(definition, **fields):
    """The form after these fields were changed, and all others sent as they were shown."""
    shown = SettingsForm(definition)
    data = {name: shown._shown(name) for name in shown.fields}
    form = SettingsForm(definition, {**data, **fields})
    form.full_clean()
    return form


def settings_of(form):
    assert form.is_valid(), form.errors
    return form.definition().get("settings")


def test_a_limit_is_entered_changed_and_taken_away():
    form = changed(GRAPH, concurrency="2", concurrency_key="inputs.who", at_limit="skip")
    limit = {"limit": 2, "key": "inputs.who", "at_limit": "skip"}
    assert settings_of(form) == {"concurrency": limit}
    limited = {**GRAPH, "settings": {"concurrency": limit, "priority": 3}}
    assert settings_of(changed(limited)) == limited["settings"]
    assert settings_of(changed(limited, at_limit="queue", concurrency_key=""))["concurrency"] == {
        "limit": 2
    }
    assert settings_of(changed(limited, concurrency="", concurrency_key="")) == {"priority": 3}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"concurrency": "0"}, "concurrency"),
        ({"concurrency": "10001"}, "concurrency"),
        ({"concurrency": "many"}, "concurrency"),
        ({"concurrency_key": "inputs.who"}, "concurrency_key"),
        ({"concurrency": "1", "at_limit": "wait"}, "at_limit"),
        ({"concurrency": "1", "concurrency_key": "x" * 2001}, "concurrency_key"),
    ],
)
def test_a_wrong_limit_is_said_at_its_field(fields, wrong):
    assert list(changed(GRAPH, **fields).errors) == [wrong]


def test_an_odd_setting_does_not_break_the_form():
    odd = {**GRAPH, "settings": {"concurrency": "two"}}
    assert settings_of(changed(odd)) == odd["settings"]
