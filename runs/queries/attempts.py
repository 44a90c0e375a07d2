"""The attempts of a step, one after the other, from its states and from what its run logged."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.utils.dateparse import parse_datetime

from runs.engine import steps
from runs.models import Run, State

LOST = "LOST"  # the status of an attempt whose worker was lost; its state has another one
LOST_LEASE = "lost its worker in attempt"  # the text by which `lease_recovery` logs a lost lease
_LOST = re.compile(rf"{LOST_LEASE} (\d+)(?: \((.*), since (\S+)\))?")


class LostLease(NamedTuple):
    """An attempt that lost its worker. Early versions didn't record the worker and the start."""

    attempt: int
    found_at: datetime
    worker: str = ""
    since: datetime | None = None


@dataclass
class Attempt:
    """One attempt. `number` counts the claims of its state, `retry_count` the states before it."""

    state: UUID
    retry_count: int
    number: int
    status: str
    worker: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""


def attempts_of(run: Run, state: State) -> list[Attempt]:
    """All attempts of the state's step, oldest first."""
    states = steps.states_of_step(run, state)
    lost = lost_leases(run, [each.pk for each in states if each.lost_leases])
    attempts = []
    for each in states:
        for lease in lost.get(each.pk, ()):
            attempts.append(_lost_attempt(each, lease))
        attempts.append(_last_attempt(each))
    return attempts


def _lost_attempt(state: State, lease: LostLease) -> Attempt:
    return Attempt(
        state.pk,
        state.retry_count,
        lease.attempt,
        LOST,
        lease.worker,
        lease.since,
        lease.found_at,
    )


def _last_attempt(state: State) -> Attempt:
    return Attempt(
        state.pk,
        state.retry_count,
        state.attempt,
        state.status,
        state.worker,
        state.started_at,
        state.finished_at,
        state.error,
    )


def lost_leases(run: Run, pks: Collection[UUID]) -> dict[UUID, list[LostLease]]:
    """When these states lost leases, from the log: states count them without their times."""
    found: dict[UUID, list[LostLease]] = {}
    if not pks:
        return found
    lines = run.logs.filter(state__in=pks, level="warning", message__contains=LOST_LEASE)
    for line in lines.order_by("pk").only("state", "created_at", "message"):
        match = _LOST.search(line.message)
        if line.state and match:
            number, worker, since = match.groups()
            began = parse_datetime(since) if since else None
            lease = LostLease(int(number), line.created_at, worker or "", began)
            found.setdefault(line.state, []).append(lease)
    return found
