"""The words for where a run or a state is, the moves between them, and how other documents spell them.

State::

                 claim                     done
    CREATED ───────────────▶ QUEUED ───────────────▶ SUCCESS
       ▲                      │ │ │ └─ prune ──────▶ PRUNED
       │ lease lost, released,│ │ └─── error ──────▶ RETRY_CREATED (and a new CREATED retry) | ERRORED
       │ run again, waits     │ │      next states ▶ NEXT_CREATED_ERROR
       └──────────────────────┘ └───── third lost ─▶ TIMEDOUT
    CREATED, QUEUED ── cancel or stop ─────────────▶ CANCELLED
    ERRORED, NEXT_CREATED_ERROR, TIMEDOUT, CANCELLED ── retried by hand ──▶ RETRY_CREATED (and a new CREATED retry)

Run::

    queued ─▶ running ◀─▶ paused        running ─▶ completed | partial | failed
    queued, running, paused ─▶ cancelled
    partial, failed, cancelled ─ states retried by hand ─▶ running
"""

from collections.abc import Mapping

CREATED, QUEUED, SUCCESS, ERRORED, RETRY_CREATED = (
    "CREATED",
    "QUEUED",
    "SUCCESS",
    "ERRORED",
    "RETRY_CREATED",
)
NEXT_CREATED_ERROR, PRUNED, CANCELLED, TIMEDOUT = (
    "NEXT_CREATED_ERROR",
    "PRUNED",
    "CANCELLED",
    "TIMEDOUT",
)
STATE_STATUSES = (
    CREATED,
    QUEUED,
    SUCCESS,
    ERRORED,
    RETRY_CREATED,
    NEXT_CREATED_ERROR,
    PRUNED,
    CANCELLED,
    TIMEDOUT,
)
UNFINISHED = (CREATED, QUEUED)
FAILED_STATES = (ERRORED, NEXT_CREATED_ERROR, TIMEDOUT)
RETRYABLE = (*FAILED_STATES, CANCELLED)
FINAL_STATES = tuple(word for word in STATE_STATUSES if word not in UNFINISHED)

# to: from
STATE_MOVES: Mapping[str, frozenset[str]] = {
    QUEUED: frozenset({CREATED}),
    CREATED: frozenset({QUEUED, CREATED}),
    SUCCESS: frozenset({QUEUED}),
    ERRORED: frozenset({QUEUED}),
    RETRY_CREATED: frozenset({QUEUED, *RETRYABLE}),
    NEXT_CREATED_ERROR: frozenset({QUEUED}),
    PRUNED: frozenset({QUEUED}),
    TIMEDOUT: frozenset({QUEUED}),
    CANCELLED: frozenset(UNFINISHED),
}

RUN_QUEUED, RUNNING, PAUSED, COMPLETED, PARTIAL, FAILED, RUN_CANCELLED = (
    "queued",
    "running",
    "paused",
    "completed",
    "partial",
    "failed",
    "cancelled",
)
RUN_STATUSES = (RUN_QUEUED, RUNNING, PAUSED, COMPLETED, PARTIAL, FAILED, RUN_CANCELLED)
ACTIVE_RUNS = (RUN_QUEUED, RUNNING, PAUSED)
ENDED_RUNS = (COMPLETED, PARTIAL, FAILED, RUN_CANCELLED)

# Retries by hand (`runs.engine.retry`) lead back from an end; they write the run's counters, not just its status.
RUN_MOVES: Mapping[str, frozenset[str]] = {
    RUN_QUEUED: frozenset(),
    RUNNING: frozenset({RUN_QUEUED, PAUSED}),
    PAUSED: frozenset({RUN_QUEUED, RUNNING}),
    COMPLETED: frozenset({RUNNING, PAUSED}),
    PARTIAL: frozenset({RUNNING, PAUSED}),
    FAILED: frozenset({RUN_QUEUED, RUNNING, PAUSED}),
    RUN_CANCELLED: frozenset(ACTIVE_RUNS),
}

# What a caller may ask of a run in each status; refusals name this list.
RUN_ACTIONS: Mapping[str, tuple[str, ...]] = {
    RUN_QUEUED: ("cancel", "pause"),
    RUNNING: ("cancel", "pause"),
    PAUSED: ("cancel", "resume"),
    COMPLETED: (),
    **dict.fromkeys((PARTIAL, FAILED, RUN_CANCELLED), ("retry",)),
}

# Run Manager's `result` (seed 001), seed 003's RunStatus and node words, and the rows of /v0 (contract A.2).
RESULT_WORDS = {**{word: word for word in RUN_STATUSES}, FAILED: "error"}
SEED_RUN_WORDS = {**{word: word for word in RUN_STATUSES}, RUN_QUEUED: "pending", PARTIAL: "failed"}
SEED_NODE_WORDS = {
    CREATED: "pending",
    QUEUED: "running",
    SUCCESS: "completed",
    PRUNED: "completed",
    RETRY_CREATED: "failed",
    ERRORED: "failed",
    NEXT_CREATED_ERROR: "failed",
    TIMEDOUT: "failed",
    CANCELLED: "cancelled",
}
OF_SEED_RUN = {
    "pending": RUN_QUEUED,
    "running": RUNNING,
    "paused": PAUSED,
    "completed": COMPLETED,
    "failed": FAILED,
    "cancelled": RUN_CANCELLED,
}
OF_SEED_NODE = {
    "pending": CREATED,
    "running": QUEUED,
    "completed": SUCCESS,
    "failed": ERRORED,
    "cancelled": CANCELLED,
    "skipped": PRUNED,
}
V0_RUN_WORDS = {
    **dict.fromkeys(RUN_STATUSES, "PENDING"),
    COMPLETED: "SUCCESS",
    FAILED: "FAILED",
    PARTIAL: "FAILED",
    RUN_CANCELLED: "FAILED",
}
