"""Claims and reports states as the executor does."""

from django.utils import timezone

from runs.engine import claim, heartbeat
from runs.engine.claimed_states import FactsCache
from runs.engine.types import Claimed, Outcome


def claimed(kinds=("noop",), seconds=30.0):
    """Claim at most 100 states of these kinds for the worker "w"."""
    return claim.claim("w", [claim.Group(list(kinds), 100)], seconds, FactsCache())


def claimed_again(kind="noop", seconds=30.0, count=1, worker="w", facts=None):
    """Claim quarantined states, which lost a worker before."""
    return claim.claim_quarantined(
        worker, claim.Group([kind], count), seconds, facts or FactsCache(), claim.QUARANTINED
    )


def done(state, value=1):
    """The outcome of a state that succeeded."""
    return Outcome(state, "done", ['{"value": 1}'], [{"value": value}])


def sign(state: Claimed, *messages: str) -> heartbeat.SignOfLife:
    """The sign of life of a running state that is half done."""
    lines = [(timezone.now(), "info", message) for message in messages]
    return heartbeat.SignOfLife(state, lines, 0.5)
