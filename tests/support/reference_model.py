"""A reference model of a run: the rules of the engine, as plainly as possible and at any cost.

After every event it evaluates everything: each join below each state of its dominator, the failure
limit, and the end of the run. A state is keyed by (node, path, retry). A path is a tuple of
(node, item) for the fan-outs above.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.definition.plan import Plan

Key = tuple[str, tuple[tuple[str, int | str], ...], int]
UNFINISHED = ("CREATED", "QUEUED")
FAILED = ("ERRORED", "TIMEDOUT")


@dataclass
class Model:
    plan: Plan
    takes: Callable[[str, str, int], bool]  # (from, to, output value) → whether the edge is taken
    states: dict[Key, str] = field(default_factory=dict)
    value: dict[Key, int] = field(default_factory=dict)
    lost: dict[Key, int] = field(default_factory=dict)
    paused = stopping = cancelled = False

    def start(self) -> None:
        for node in self.plan.shape.roots:
            self.states[node, (), 0] = "CREATED"

    def event(self, outcomes: Sequence[tuple[Key, str, Any]]) -> None:
        """Record a batch: the outcomes of some QUEUED states."""
        for key, kind, values in outcomes:
            getattr(self, kind)(key, values)
        self.fire_joins()
        failed = sum(status in FAILED for status in self.states.values())
        known = sum(status != "RETRY_CREATED" for status in self.states.values())
        if failed > self.plan.failures_allowed(known):
            self.stopping = True
        if self.stopping:
            self.states = {
                key: "CANCELLED" if status == "CREATED" else status
                for key, status in self.states.items()
            }

    def done(self, key: Key, values: list[int] | int) -> None:
        node, path, retry = key
        del self.states[key]
        single = isinstance(values, int)
        for item, value in enumerate([values] if single else values or [0]):
            place = path if single else (*path, (node, item if values else "-"))
            self.states[node, place, retry] = "SUCCESS"
            self.value[node, place, retry] = value
            for child in self.plan.shape.children[node] if single or values else ():
                if not self.plan.shape.is_join(child) and self.takes(node, child, value):
                    self.states[child, place, 0] = "CREATED"

    def error(self, key: Key, _: Any) -> None:
        node, path, retry = key
        is_retried = retry < self.plan.nodes[node].policy.max_retries and not self.stopping
        self.states[key] = "RETRY_CREATED" if is_retried else "ERRORED"
        if is_retried:
            self.states[node, path, retry + 1] = "CREATED"

    def prune(self, key: Key, _: Any) -> None:
        self.states[key] = "PRUNED"

    def release(self, key: Key, _: Any) -> None:
        self.states[key] = "CREATED"

    def again(self, key: Key, _: Any) -> None:
        self.states[key] = "CREATED"

    def lose(self, key: Key, _: Any) -> None:
        self.lost[key] = self.lost.get(key, 0) + 1
        self.states[key] = "TIMEDOUT" if self.lost[key] == 3 else "CREATED"

    def fire_joins(self) -> None:
        """Fire every join that no unfinished state can reach any more, in topological order."""
        for join in self.plan.order:
            if self.plan.shape.is_join(join) and any(
                self.fires(join, place) for place in self.places(join)
            ):
                return self.fire_joins()
        return None

    def places(self, join: str) -> list[tuple[tuple[str, int | str], ...]]:
        """The paths below which the join may run: one for each success of its dominator."""
        dominator = self.plan.shape.dominator[join]
        if dominator == "":
            return [()]
        return [
            path
            for (node, path, _), status in self.states.items()
            if node == dominator and status == "SUCCESS" and (dominator, "-") not in path[-1:]
        ]

    def fires(self, join: str, place: tuple[tuple[str, int | str], ...]) -> bool:
        """Fire the join below this path, if it is ready; return whether it did."""
        shape, node = self.plan.shape, self.plan.nodes[join]
        below = {
            key: status
            for key, status in self.states.items()
            if key[0] in shape.region[join] and key[1][: len(place)] == place
        }
        exists = any(key[0] == join and key[1][: len(place)] == place for key in self.states)
        if exists or any(status in UNFINISHED for status in below.values()):
            return False
        arrived = any(
            self.states[key] == "SUCCESS"
            and (key[0], "-") not in key[1][-1:]
            and self.takes(key[0], join, self.value[key])
            for parent in shape.parents[join]
            for key in self.states
            if key[0] == parent and key[1][: len(place)] == place
        )
        failed = any(
            status in FAILED for key, status in below.items() if key[0] in shape.failing[join]
        )
        if (below or arrived) if node.all_done else (arrived and not failed):
            self.states[join, place, 0] = "CREATED"
            return True
        return False

    def cancel(self) -> None:
        self.cancelled = True
        self.states = {
            key: "CANCELLED" if status in UNFINISHED else status
            for key, status in self.states.items()
        }

    @property
    def status(self) -> str:
        statuses = list(self.states.values())
        if self.cancelled:
            return "cancelled"
        if any(status in UNFINISHED for status in statuses):
            return "paused" if self.paused else "running"
        failed = any(status in FAILED for status in statuses)
        succeeded = any(status in ("SUCCESS", "PRUNED") for status in statuses)
        if not failed and not self.stopping:
            return "completed"
        return "failed" if not succeeded or (failed and self.plan.stop_at_failure) else "partial"
