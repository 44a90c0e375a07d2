"""Every route called with a key of another tenant, with a weaker key, and with absurd payloads.

The routes come from the URL map, so that no test forgets one.
"""

import json
import re
from typing import Any

import pytest

from graphs.auth import api_keys
from graphs.models import ApiKey
from runs.api.v0 import urls
from runs.models import Run, State
from tests.support.runs import by_node
from tests.support.v0_client import V0Client, node, one_state

SCOPES = {
    (str(pattern.pattern), method.upper()): pattern.callback.cls.scopes[action]
    for pattern in urls.urlpatterns
    for method, action in pattern.callback.actions.items()
}
ROUTES = sorted(SCOPES)
INCLUDED = {
    "read": {"read"},
    "run": {"run", "read"},
    "worker": {"worker", "read"},
    "admin": {"admin", "run", "worker", "read"},
}
pytestmark = pytest.mark.django_db


@pytest.fixture
def path_values(api):
    """Values for the placeholders of paths, from the namespace alpha."""
    api.register("Guarded", secrets=["token"])
    api.upsert("g", node("a", name="Guarded"), secrets={"token": "canary"})
    run_id = api.trigger("g", run_id="the-run")
    [state] = api.claim("Guarded")
    return {
        "graph": "g",
        "run_id": run_id,
        "state": state["state_id"],
        "version": "1",
        "secret": "token",
        "page": "1",
        "size": "10",
    }


def fill(route: str, path_values: dict[str, str]) -> str:
    return re.sub(r"<str:(\w+)>", lambda match: path_values[match.group(1)], route)


@pytest.mark.parametrize(("route", "method"), ROUTES)
def test_a_key_of_another_namespace_gets_a_404(path_values, other, route, method):
    """A foreign key finds nothing below alpha, nor below its own namespace with alpha's ids."""
    status, answer = other(method.lower(), f"/v0/namespace/alpha/{fill(route, path_values)}", {})
    assert (status, answer) == (
        404,
        {"detail": "There is no namespace 'alpha' that this key opens."},
    )
    status, answer = other(method.lower(), fill(route, path_values), BODIES.get(route, {}))
    assert "canary" not in json.dumps(answer)
    if "<str:state>" in route or ("<str:graph>" in route and method != "PUT"):
        assert status == 404, answer
    assert by_node(Run.objects.get(namespace__name="alpha")) == {"a": ["QUEUED"]}


BODIES: dict[str, Any] = {
    "state/<str:state>/executed": {"outputs": []},
    "state/<str:state>/errored": {"error": ""},
    "state/<str:state>/prune": {"data": {}},
    "state/<str:state>/re-enqueue-after": {"enqueue_after": 1},
    "state/<str:state>/manual-retry": {"fanout_id": "x"},
    "graph/<str:graph>/trigger": {"inputs": {}},
    "graph/<str:graph>/states/create": {
        "run_id": "r",
        "states": [{"identifier": "a", "inputs": {}}],
    },
    "graph/<str:graph>/rollback": {"version": 1},
    "states/enqueue": {"nodes": ["Guarded"], "batch_size": 1},
}
BODIES |= {
    route.replace("state/", "states/", 1): body
    for route, body in BODIES.items()
    if route.startswith("state/")
}


@pytest.mark.parametrize(("route", "method"), ROUTES)
@pytest.mark.parametrize("scope", ["read", "run", "worker"])
def test_a_key_does_what_its_scope_allows_and_no_more(path_values, scope, route, method):
    weak = V0Client(api_keys.create_key(["alpha"], scope)[1])
    status, answer = weak(method.lower(), fill(route, path_values), {})
    needed = SCOPES[route, method]
    allowed = needed in INCLUDED[scope]
    assert (status == 403) == (not allowed), answer
    if not allowed:
        scopes = ", ".join(sorted(INCLUDED[scope]))
        assert answer == {"detail": f"This needs the scope '{needed}'; yours are {scopes}."}


EXTREMES = {
    "NUL": '{"x": "a\\u0000b"}',
    "raw NUL": '{"x": "a\x00b"}',
    "lone surrogate": '{"x": "\\ud800"}',
    "NaN": '{"x": NaN}',
    "Infinity": '{"x": -Infinity}',
    "huge number": '{"x": 1e999}',
    "10^400": '{"batch_size": 1' + "0" * 400 + ', "start_delay": 1' + "0" * 400 + "}",
    "100k brackets": "[" * 100_000 + "]" * 100_000,
    "100k objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "10 MB": '{"x": "' + "a" * 10_000_000 + '"}',
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "text": '"text"',
    "latin-1": b'{"x": "\xe4"}',
    "nothing": "",
}
WRITES = [
    (route, method)
    for route, method in ROUTES
    if method in ("POST", "PUT") and not route.startswith("run/")
]
# These routes accept an object with any members, or take it as their data.
ALL_OPTIONAL = ("heartbeat", "release", "prune")


@pytest.mark.parametrize("extreme", EXTREMES)
def test_absurd_bodies_are_refused_with_a_reason(api, path_values, extreme):
    for route, method in WRITES:
        url = f"/v0/namespace/alpha/{fill(route, path_values)}"
        answer = api.client.generic(method, url, EXTREMES[extreme], content_type="application/json")
        if extreme == "10^400" and url.endswith(ALL_OPTIONAL):
            continue
        assert answer.status_code in (400, 413, 422), (
            url,
            answer.status_code,
            answer.content[:200],
        )
        assert answer.json()["detail"]
    assert State.objects.count() >= 1


@pytest.mark.parametrize(
    "name",
    ["%00", "..", "a%2Fb", "😀", "x" * 300, "%ff", "'; DROP TABLE statemanager_runs_run; --"],
)
def test_absurd_names_in_paths_are_refused_or_stored_correctly(api, name):
    unlimited = V0Client(api_keys.create_key((), "admin")[1])
    for client in (api, unlimited):
        for path in (
            f"graph/{name}",
            f"states/run/{name}",
            f"run/{name}/metrics",
            f"state/{name}/secrets",
        ):
            assert client.get(path)[0] in (200, 400, 404, 422), path
        status, answer = client.put(f"graph/{name}", {"secrets": {}, "nodes": [node("a")]})
        assert status in (201, 404, 422), answer
        status, answer = client.put(
            f"/v0/namespace/{name}/nodes/", {"runtime_name": "r", "nodes": []}
        )
        assert status in (200, 404, 422), answer


@pytest.mark.parametrize("kind", ["integer", "number", "string", "object"])
def test_huge_numbers_in_outputs_are_checked_like_any_others(api, kind):
    api.register("Give", outputs={"x": kind})
    api.upsert("g", node("a", name="Give"), retry_policy={"max_retries": 0})
    api.trigger("g")
    [state] = api.claim("Give")
    status, answer = api.post(f"state/{state['state_id']}/executed", {"outputs": [{"x": 10**400}]})
    assert status == (200 if kind in ("integer", "number") else 422), answer
    [item] = api.get("states/")[1]["states"]
    assert item["outputs"] == ({"x": 10**400} if status == 200 else {})


def test_another_namespace_cannot_report_on_a_state(api, other):
    state = one_state(api)
    bodies = {
        "executed": {"outputs": []},
        "errored": {"error": ""},
        "prune": {"data": {}},
        "re-enqueue-after": {"enqueue_after": 1},
    }
    bodies |= {"manual-retry": {"fanout_id": "x"}, "heartbeat": {}, "release": {}}
    for verb, body in bodies.items():
        assert other.post(f"state/{state['state_id']}/{verb}", body)[0] == 404, verb
        assert (
            other.post(f"/v0/namespace/alpha/state/{state['state_id']}/{verb}", body)[0] == 404
        ), verb
    assert other.get(f"state/{state['state_id']}/secrets")[0] == 404
    assert by_node(Run.objects.get()) == {"a": ["QUEUED"]}


def test_the_three_scopes_allow_different_requests(api, namespace):
    reader, runner, worker = (
        V0Client(api_keys.create_key(["alpha"], scope)[1]) for scope in ("read", "run", "worker")
    )
    state = one_state(api)
    assert [client.get("graphs/")[0] for client in (reader, runner, worker)] == [200] * 3
    assert [client.post("graph/g/trigger", {})[0] for client in (reader, runner, worker)] == [
        403,
        200,
        403,
    ]
    assert [
        client.post("states/enqueue", {"nodes": [], "batch_size": 1})[0]
        for client in (reader, runner, worker)
    ] == [403, 403, 200]
    for client in (reader, runner):
        assert client.get(f"state/{state['state_id']}/secrets")[0] == 403
    for client in (reader, runner, worker):
        assert client("delete", "graph/g")[0] == 403


def test_a_revoked_key_opens_nothing_and_keys_are_not_stored(api):
    reader = V0Client(api_keys.create_key(["alpha"], "read")[1])
    assert reader.get("graphs/")[0] == 200
    api_keys.revoke(ApiKey.objects.filter(scope="read"))
    assert reader.get("graphs/") == (401, {"detail": "Invalid API key"})
    assert api.key.split("_", 2)[2] not in str(ApiKey.objects.values_list())
