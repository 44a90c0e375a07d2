"""The statuses of runs and states, the moves between them, and their names in other interfaces.

State::

                 claim                     done
    CREATED ───────────────▶ QUEUED ───────────────▶ SUCCESS
       ▲                      │ │ │ └─ prune ──────▶ PRUNED
       │ lease lost, released,│ │ └─── error ──────▶ RETRY_CREATED (and a new CREATED retry)
       │ run again, waits     │ │                    or ERRORED
       └──────────────────────┘ │      next states ▶ NEXT_CREATED_ERROR
                                └───── third lost ─▶ TIMEDOUT

    CREATED, QUEUED ── cancel or stop ─▶ CANCELLED

    ERRORED, NEXT_CREATED_ERROR, TIMEDOUT, CANCELLED
        ── retried by hand ─▶ RETRY_CREATED (and a new CREATED retry)

Run::

    queued ─▶ running ◀─▶ paused        running ─▶ completed | partial | failed
    queued, running, paused ─▶ cancelled
    partial, failed, cancelled ─ states retried by hand ─▶ running
"""

from collections.abc import Mapping

# --- states --------------------------------------------------------------------------------------

CREATED = "CREATED"
QUEUED = "QUEUED"
SUCCESS = "SUCCESS"
ERRORED = "ERRORED"
RETRY_CREATED = "RETRY_CREATED"
NEXT_CREATED_ERROR = "NEXT_CREATED_ERROR"
PRUNED = "PRUNED"
CANCELLED = "CANCELLED"
TIMEDOUT = "TIMEDOUT"

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
FINAL_STATES = tuple(status for status in STATE_STATUSES if status not in UNFINISHED)

# For each status, those from which a state may move to it.
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

# --- runs ----------------------------------------------------------------------------------------

RUN_QUEUED = "queued"
RUNNING = "running"
PAUSED = "paused"
COMPLETED = "completed"
PARTIAL = "partial"
FAILED = "failed"
RUN_CANCELLED = "cancelled"

RUN_STATUSES = (RUN_QUEUED, RUNNING, PAUSED, COMPLETED, PARTIAL, FAILED, RUN_CANCELLED)
ACTIVE_RUNS = (RUN_QUEUED, RUNNING, PAUSED)
ENDED_RUNS = (COMPLETED, PARTIAL, FAILED, RUN_CANCELLED)
UNSUCCESSFUL = (FAILED, PARTIAL)  # ended with failures that were not made good

# For each status, those from which a run may move to it. A run that has ended goes on only when
# states are retried by hand (`runs.engine.retry`), which writes its counters, not just its status.
RUN_MOVES: Mapping[str, frozenset[str]] = {
    RUN_QUEUED: frozenset(),
    RUNNING: frozenset({RUN_QUEUED, PAUSED}),
    PAUSED: frozenset({RUN_QUEUED, RUNNING}),
    COMPLETED: frozenset({RUNNING, PAUSED}),
    PARTIAL: frozenset({RUNNING, PAUSED}),
    FAILED: frozenset({RUN_QUEUED, RUNNING, PAUSED}),
    RUN_CANCELLED: frozenset(ACTIVE_RUNS),
}

# What a caller may do with a run in each status. Refusals list these.
RUN_ACTIONS: Mapping[str, tuple[str, ...]] = {
    RUN_QUEUED: ("cancel", "pause"),
    RUNNING: ("cancel", "pause"),
    PAUSED: ("cancel", "resume"),
    COMPLETED: (),
    **dict.fromkeys((PARTIAL, FAILED, RUN_CANCELLED), ("retry",)),
}

# --- names in other interfaces -------------------------------------------------------------------

# `result` in the Run Manager API.
RUN_RESULTS = {**{status: status for status in RUN_STATUSES}, FAILED: "error"}

# Run documents: the status of a run and of its nodes, in both directions.
DOCUMENT_RUN_STATUSES = {
    **{status: status for status in RUN_STATUSES},
    RUN_QUEUED: "pending",
    PARTIAL: "failed",
}
DOCUMENT_NODE_STATUSES = {
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
RUN_STATUS_OF_DOCUMENT = {
    "pending": RUN_QUEUED,
    "running": RUNNING,
    "paused": PAUSED,
    "completed": COMPLETED,
    "failed": FAILED,
    "cancelled": RUN_CANCELLED,
}
STATE_STATUS_OF_DOCUMENT = {
    "pending": CREATED,
    "running": QUEUED,
    "completed": SUCCESS,
    "failed": ERRORED,
    "cancelled": CANCELLED,
    "skipped": PRUNED,
}

# The words of the filters `status`, in lower case: each name that an interface gives to a status,
# and names of groups.
RUN_WORDS: Mapping[str, tuple[str, ...]] = {
    **{status: (status,) for status in RUN_STATUSES},
    "error": (FAILED,),
    "pending": (RUN_QUEUED,),
    "success": (COMPLETED,),
    "unsuccessful": UNSUCCESSFUL,
    "active": ACTIVE_RUNS,
    "ended": ENDED_RUNS,
}

# The list of runs in the `/v0` API.
V0_RUN_STATUSES = {
    **dict.fromkeys(RUN_STATUSES, "PENDING"),
    COMPLETED: "SUCCESS",
    FAILED: "FAILED",
    PARTIAL: "FAILED",
    RUN_CANCELLED: "FAILED",
}
# The words of that list's filter. In capitals they are its own, each for all that it shows so.
V0_RUN_WORDS: Mapping[str, tuple[str, ...]] = {
    word: tuple(status for status in RUN_STATUSES if V0_RUN_STATUSES[status] == word)
    for word in dict.fromkeys(V0_RUN_STATUSES.values())
}
