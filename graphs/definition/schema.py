"""The shape of a definition as JSON Schema.

`graphs.definition.validation` holds the rules that concern more than one part of a definition.
"""

from graphs.definition import concurrency, retry_delay, value_paths
from graphs.definition.types import JsonObject

MAX_NODES = 10_000
MIN_PRIORITY, MAX_PRIORITY = -100, 100
MAX_INDEXED_INPUTS = 10  # of a graph; each costs a row for every run
MAX_TIME_LIMIT = 10 * 366 * 24 * 3600  # seconds
_WEEK = 7 * 24 * 3600  # seconds

_ID: JsonObject = {
    "type": "string",
    "minLength": 1,
    "maxLength": 200,
    "pattern": r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$",
}
# Seconds that an external worker may hold a state without a heartbeat.
_TIME_LIMIT: JsonObject = {
    "type": ["number", "null"],
    "exclusiveMinimum": 0,
    "maximum": MAX_TIME_LIMIT,
}
_LEASE: JsonObject = {"type": ["number", "null"], "minimum": 1, "maximum": _WEEK}
_COORDINATE: JsonObject = {"type": "number", "minimum": -1_000_000, "maximum": 1_000_000}
_PERCENTAGE: JsonObject = {"type": "string", "pattern": r"^(100|[0-9]{1,2})(\.[0-9]+)?%$"}

NODE_SCHEMA: JsonObject = {
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
        "position": {
            "type": ["object", "null"],
            "properties": {"x": _COORDINATE, "y": _COORDINATE},
        },
    },
}
EDGE_SCHEMA: JsonObject = {
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
GRAPH_SCHEMA: JsonObject = {
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
                    "anyOf": [{"type": "integer", "minimum": 0}, _PERCENTAGE, {"type": "null"}]
                },
                "max_steps": {"type": ["integer", "null"], "minimum": 1},
                "priority": {
                    "type": "integer",
                    "minimum": MIN_PRIORITY,
                    "maximum": MAX_PRIORITY,
                },
                "timeout": _TIME_LIMIT,
                "start_by": _TIME_LIMIT,
                "concurrency": {
                    "type": ["object", "null"],
                    "required": ["limit"],
                    "properties": {
                        "limit": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": concurrency.MAX_LIMIT,
                        },
                        "key": {"type": ["string", "null"]},
                        "at_limit": {"enum": list(concurrency.AT_LIMIT)},
                    },
                    "additionalProperties": False,
                },
                "rerun_on_failure": {
                    "type": ["object", "null"],
                    "required": ["times"],
                    "properties": {
                        "times": {"type": "integer", "minimum": 0, "maximum": 20},
                        "from": {"enum": ["failed", "start"]},
                        "delay": {"type": "number", "minimum": 0, "maximum": _WEEK},
                    },
                    "additionalProperties": False,
                },
                "retry": retry_delay.SCHEMA,
                "lease": _LEASE,
                "indexed_inputs": {
                    "type": "array",
                    "items": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": value_paths.MAX_LENGTH,
                    },
                    "maxItems": MAX_INDEXED_INPUTS,
                },
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
