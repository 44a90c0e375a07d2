"""`/v0`, the State Manager API: the half that serves states and runs. See `graphs.api.v0`."""
