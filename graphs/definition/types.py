"""The types of JSON values."""

from typing import Any

# What a tenant puts into inputs, outputs and labels: any JSON value. Python's type system can't
# describe one usefully, so these names say at least that JSON is meant.
Json = Any
JsonObject = dict[str, Any]
