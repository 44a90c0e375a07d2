"""Programs written for `exospherehost` run unchanged against a served State Manager."""
