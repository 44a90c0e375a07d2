"""A client of `/v0` that sends the requests of a worker program."""

from typing import Any

from django.test import Client


class V0Client:
    """Sends requests in one namespace with one key. A call returns (status, body)."""

    def __init__(self, key: str | None, namespace: str = "alpha") -> None:
        self.key, self.namespace = key, namespace
        self.client = Client(
            headers={"X-API-Key": key} if key else {}, raise_request_exception=False
        )
        self.last: Any = None

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        url = path if path.startswith("/") else f"/v0/namespace/{self.namespace}/{path}"
        data = {} if body is None else {"data": body, "content_type": "application/json"}
        self.last = getattr(self.client, method)(url, **data, headers=headers)
        return self.last.status_code, self.last.json()

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self("get", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        return self("post", path, body, **headers)

    def put(self, path: str, body: Any = None) -> tuple[int, Any]:
        return self("put", path, body)

    # --- the requests of worker programs ---

    def register(
        self,
        *names: str,
        inputs: dict[str, Any] | None = None,
        outputs: dict[str, Any] | None = None,
        secrets: list[str] | None = None,
    ) -> None:
        nodes = [
            {
                "name": name,
                "inputs_schema": schema(inputs or {}),
                "outputs_schema": schema(outputs or {"value": "string"}),
                "secrets": secrets or [],
            }
            for name in names
        ]
        status, answer = self.put("nodes/", {"runtime_name": "tests", "nodes": nodes})
        assert status == 200, answer

    def upsert(self, name: str, *nodes: dict[str, Any], status: int = 201, **members: Any) -> Any:
        body = {"secrets": {}, "nodes": list(nodes), **members}
        actual, answer = self.put(f"graph/{name}", body)
        assert actual == status, answer
        return answer

    def trigger(self, graph: str, **body: Any) -> str:
        status, answer = self.post(f"graph/{graph}/trigger", body)
        assert status == 200, answer
        return str(answer["run_id"])

    def claim(self, *nodes: str, size: int = 16) -> list[dict[str, Any]]:
        status, answer = self.post("states/enqueue", {"nodes": list(nodes), "batch_size": size})
        assert status == 200, answer
        return list(answer["states"])

    def executed(self, state: dict[str, Any], *outputs: dict[str, Any]) -> None:
        status, answer = self.post(
            f"state/{state['state_id']}/executed", {"outputs": list(outputs)}
        )
        assert (status, answer) == (200, {"status": "EXECUTED"}), answer

    def work(self, *nodes: str, outputs: Any = None, rounds: int = 100) -> int:
        """Claim and finish states until there are none; return how many.

        `outputs` maps identifiers to lists of outputs.
        """
        done = 0
        for _ in range(rounds):
            states = self.claim(*nodes)
            if not states:
                return done
            for state in states:
                self.executed(state, *(outputs or {}).get(state["identifier"], [{"value": "x"}]))
                done += 1
        raise AssertionError(f"there are still states after {rounds} rounds")


def schema(fields: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema, as pydantic generates it for the classes of the SDK."""
    properties = {name: {"title": name.title(), "type": kind} for name, kind in fields.items()}
    return {"properties": properties, "required": list(fields), "title": "Fields", "type": "object"}


def node(
    identifier: str,
    next_nodes: list[str] | None = None,
    name: str = "Work",
    inputs: Any = None,
    **members: Any,
) -> dict[str, Any]:
    """A node of a graph template."""
    namespace = members.pop("namespace", "alpha")
    return {
        "node_name": name,
        "namespace": namespace,
        "identifier": identifier,
        "inputs": inputs or {},
        "next_nodes": next_nodes,
        **members,
    }


def one_state(api: V0Client, **members: Any) -> dict[str, Any]:
    """Start a run of two nodes; return its first state, claimed."""
    api.upsert("g", node("a", ["b"]), node("b"), **members)
    api.trigger("g")
    return api.claim("Work")[0]
