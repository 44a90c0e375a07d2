"""Programs written for the `exospherehost` package, run unchanged against a State Manager."""
