"""The shape of a definition as JSON Schema; what needs more than one part of it is judged in `graphs.definition.validation`."""

from typing import Any

from graphs.definition import retry_delay

MAX_NODES = 10_000
_ID = {
    "type": "string",
    "minLength": 1,
    "maxLength": 200,
    "pattern": r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$",
}
_LEASE = {
    "type": ["number", "null"],
    "minimum": 1,
    "maximum": 7 * 24 * 3600,
}  # seconds that an external worker may hold a state
_PLACE = {"type": "number", "minimum": -1_000_000, "maximum": 1_000_000}
NODE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "kind"],
    "properties": {
        "id": _ID,
        "kind": _ID,
        "namespace": {"type": "string", "maxLength": 100},
        "text": {"type": "array", "items": {"type": "string"}},
        "label": {"type": "string", "maxLength": 500},
        "data": {
            "type": ["object", "null"],
            "properties": {
                "inputs": {"type": "object"},
                "unites": {
                    "type": ["object", "null"],
                    "required": ["identifier"],
                    "properties": {
                        "identifier": _ID,
                        "strategy": {"enum": ["ALL_SUCCESS", "ALL_DONE"]},
                    },
                    "additionalProperties": False,
                },
                "retry": retry_delay.SCHEMA,
                "timeout": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
                "lease": _LEASE,
                "side_effects": {"type": "boolean"},
            },
        },
        "position": {"type": ["object", "null"], "properties": {"x": _PLACE, "y": _PLACE}},
    },
}
EDGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["from", "to"],
    "properties": {
        "id": {"type": "string", "maxLength": 200},
        "from": _ID,
        "to": _ID,
        "kind": {"type": ["string", "null"], "maxLength": 100},
        "data": {"type": ["object", "null"], "properties": {"when": {"type": ["string", "null"]}}},
    },
}
_PERCENT = {"type": "string", "pattern": r"^(100|[0-9]{1,2})(\.[0-9]+)?%$"}
GRAPH_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["nodes", "edges"],
    "properties": {
        "nodes": {"type": "array", "maxItems": MAX_NODES},
        "edges": {"type": "array", "maxItems": 10 * MAX_NODES},
        "inputs": {
            "type": ["object", "null"],
            "properties": {
                "properties": {
                    "type": "object",
                    "additionalProperties": {"type": ["object", "boolean"]},
                },
                "required": {"type": "array", "items": {"type": "string"}},
            },
        },
        "metadata": {"type": ["object", "null"]},
        "settings": {
            "type": ["object", "null"],
            "properties": {
                "failure_policy": {"enum": ["continue", "stop"]},
                "max_failures": {
                    "anyOf": [{"type": "integer", "minimum": 0}, _PERCENT, {"type": "null"}]
                },
                "max_steps": {"type": ["integer", "null"], "minimum": 1},
                "rerun_on_failure": {
                    "type": ["object", "null"],
                    "required": ["times"],
                    "properties": {
                        "times": {"type": "integer", "minimum": 0, "maximum": 20},
                        "from": {"enum": ["failed", "start"]},
                        "delay": {"type": "number", "minimum": 0, "maximum": 7 * 24 * 3600},
                    },
                    "additionalProperties": False,
                },
                "retry": retry_delay.SCHEMA,
                "lease": _LEASE,
                "store": {
                    "type": "object",
                    "properties": {
                        "required_keys": {"type": "array", "items": _ID, "uniqueItems": True},
                        "default_values": {"type": "object"},
                    },
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
    },
}
