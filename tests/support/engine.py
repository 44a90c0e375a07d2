"""States claimed and reported as the executor does."""

from runs.engine import claim as claim_module
from runs.engine.types import Outcome


def claimed(kinds=("noop",), seconds=30.0):
    return claim_module.claim("w", [(list(kinds), 100)], seconds, claim_module.FactsCache())


def done(state, value=1):
    return Outcome(state, "done", ['{"value": 1}'], [{"value": value}])
