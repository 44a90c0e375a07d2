"""The part of `/v0` that serves states and runs. See `graphs.api.v0`."""
