"""Units of the API: a length of time is in seconds, or its name ends with `_ms`."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from runs.engine.start import start_run
from runs.models import State
from tests.support.api_client import ApiClient
from tests.support.openapi import document

TIME = re.compile(
    r"delay|lease|duration|timeout|_after$|backoff|interval|elapsed|latency|wait|_at$|^age|ttl"
    r"|_ms$|seconds|minutes|hours"
)
NAMED = re.compile(r"(_ms|_seconds)$")
# Names of the protocols that we serve, with what they are in.
PROTOCOL = {
    "start_delay": "milliseconds, of /v0",
    "enqueue_after": "milliseconds, of /v0",
    "backoff_factor": "milliseconds, of /v0",
    "max_delay": "milliseconds, of /v0",
    "lease": "seconds",
    "timeout": "seconds",
    "started_at": "Unix seconds, of run documents",
    "updated_at": "Unix seconds, of run documents",
    "finished_at": "Unix seconds, of run documents",
}
COUNTS = {"waiting"}  # numbers of runs


def numbers(part: Any, name: str = "") -> Iterator[str]:
    """The names of all numbers in the schema, of members and of parameters."""
    if isinstance(part, list):
        for item in part:
            yield from numbers(item, name)
    if not isinstance(part, dict):
        return
    kinds = part.get("type")
    if name and {"integer", "number"} & set(kinds if isinstance(kinds, list) else [str(kinds)]):
        yield name
    for key, value in part.items():
        if key == "properties":
            for member, schema in value.items():
                yield from numbers(schema, member)
        elif key == "schema":
            yield from numbers(value, part.get("name", ""))
        else:
            yield from numbers(value, name if key in ("anyOf", "oneOf", "allOf") else "")


def test_every_length_of_time_names_its_unit():
    times = {name for name in numbers(document()) if TIME.search(name)}
    assert times >= {"duration_seconds", "lease_seconds", "start_delay_ms"}, "the walk sees them"
    assert {name for name in times if not NAMED.search(name)} - COUNTS == set(PROTOCOL)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["start_delay_ms", "start_delay"])
def test_a_run_starts_after_the_delay_in_milliseconds(name, publish, make_key):
    api = ApiClient(make_key("run"))
    path = f"/graphs/{publish('a').pk}/run"
    assert api("POST", path, {name: 90_000})[0] == 200
    state = State.objects.get()
    assert round((state.due_at - state.created_at).total_seconds()) == 90


@pytest.mark.django_db
def test_a_rerun_starts_after_the_delay_in_milliseconds(publish, drain, make_key):
    run = start_run(publish("a"))
    drain()
    api = ApiClient(make_key("run"))
    assert api("POST", f"/rerun/{run.run_id}", {"start_delay_ms": 90_000})[0] == 200
    state = State.objects.exclude(run=run).get()
    assert round((state.due_at - state.created_at).total_seconds()) == 90
    both = {"start_delay_ms": 1, "start_delay": 1}
    assert api("POST", f"/rerun/{run.run_id}", both)[0] == 422
