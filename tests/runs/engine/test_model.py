"""The engine compared with the reference model.

Random events happen to the runs of random graphs, in random order and in random batches. After each
of them the engine and the model must agree.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from graphs.auth.callers import SYSTEM
from graphs.definition import payloads
from graphs.models import Namespace
from graphs.nodes.base import registry
from graphs.services import publish
from runs.engine import claim, control
from runs.engine.counters import RunCounters
from runs.engine.record import record_batch
from runs.engine.start import start_run
from runs.engine.types import Claimed, Lease, Outcome
from runs.models import Run
from tests.settings import TEST_DATABASE
from tests.support.engine import claimed_again
from tests.support.invariants import assert_counters_agree
from tests.support.reference_model import Model


@st.composite
def graphs(draw: Any) -> dict[str, Any]:
    """A definition of two to seven nodes.

    Edges lead from earlier nodes to later ones, and some have conditions. Some nodes unite a node
    above them.
    """
    count = draw(st.integers(2, 7))
    names = [f"n{at}" for at in range(count)]
    edges = []
    for end in range(1, count):
        for start in sorted(draw(st.sets(st.integers(0, end - 1), max_size=3))):
            condition = (
                {"data": {"when": "outputs.value > 1"}} if draw(st.integers(0, 3)) == 0 else {}
            )
            edges.append({"from": names[start], "to": names[end], **condition})
    nodes: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        data: dict[str, Any] = {
            "retry": {
                "max_retries": draw(st.integers(0, 1)),
                "strategy": "FIXED",
                "backoff_factor": 0.0001,
            }
        }
        if at and draw(st.integers(0, 2)) == 0:
            data["unites"] = {
                "identifier": names[draw(st.integers(0, at - 1))],
                "strategy": draw(st.sampled_from(["ALL_SUCCESS", "ALL_DONE"])),
            }
        nodes.append({"id": name, "kind": "noop", "data": data})
    limits = draw(st.sampled_from([{}, {}, {}, {"max_failures": 1}, {"failure_policy": "stop"}]))
    return {"nodes": nodes, "edges": edges, "settings": limits}


def without_refused_unites(definition: dict[str, Any]) -> dict[str, Any]:
    """Remove each `unites` that validation refuses because not every path passes its node."""
    while refused := {problem.nodeId for problem in publish.check("model", definition)}:
        for node in definition["nodes"]:
            if node["id"] in refused:
                node["data"].pop("unites", None)
    return definition


class EngineAgainstModel(RuleBasedStateMachine):
    @initialize(definition=graphs())
    def begin(self, definition: dict[str, Any]) -> None:
        graph = publish.publish_graph(
            Namespace.objects.get_or_create(name="model")[0],
            "model",
            without_refused_unites(definition),
        )
        conditional = {
            (edge["from"], edge["to"]) for edge in definition["edges"] if edge.get("data")
        }
        self.run = start_run(graph)
        self.model = Model(
            self.run.version.plan,
            lambda start, end, value: (start, end) not in conditional or value > 1,
        )
        self.model.start()
        self.facts = claim.FactsCache()
        self.claimed: list[Claimed] = []
        self.counters_by_run: dict[int, RunCounters] = {}
        self.late: list[Claimed] = []

    def key(self, state: Claimed) -> Any:
        names = {str(node.index): name for name, node in self.model.plan.nodes.items()}
        parts = [part.split(":") for part in state.path.split(".")] if state.path else []
        return (
            state.identifier,
            tuple((names[node], int(item) if item != "-" else item) for node, item in parts),
            state.retry_count,
        )

    def take(self, states: list[Claimed]) -> None:
        for state in sorted(states, key=self.key):
            assert state.run.pk == self.run.pk
            assert self.model.states[self.key(state)] == "CREATED"
            assert not self.model.paused
            self.model.states[self.key(state)] = "QUEUED"
            self.claimed.append(state)

    @rule(quarantined=st.booleans())
    def claim(self, quarantined: bool) -> None:
        """Claim everything that is ready.

        A smaller limit would let chance decide between states of the same age, and Hypothesis
        could not replay that.
        """
        if quarantined:
            self.take(claimed_again(count=1000, facts=self.facts))
        else:
            self.take(claim.claim("model", [claim.Group(["noop"], 1000)], 30, self.facts))
        unclaimed = [
            key
            for key, status in self.model.states.items()
            if status == "CREATED" and (self.model.lost.get(key, 0) > 0) == quarantined
        ]
        assert not unclaimed or self.model.paused, unclaimed

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), lease=st.booleans(), known=st.booleans())
    def record(self, data: Any, lease: bool, known: bool) -> None:
        self.claimed.sort(key=self.key)
        chosen = data.draw(
            st.lists(
                st.sampled_from(self.claimed),
                min_size=1,
                max_size=3,
                unique_by=lambda state: state.id,
            )
        )
        outcomes, events = [], []
        for state in chosen:
            kind = data.draw(
                st.sampled_from(
                    ["done", "done", "done", "error", "prune", "again", "release", "lost"]
                )
            )
            values: Any = (
                data.draw(st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=3)))
                if kind == "done"
                else None
            )
            outcomes.append(self.outcome(state, kind, values))
            events.append((self.key(state), {"lost": "lose"}.get(kind, kind), values))
            self.claimed.remove(state)
            self.late.append(state)
        expired = [
            state.id for state, (_, kind, _) in zip(chosen, events, strict=True) if kind == "lose"
        ]
        self.run.states.filter(pk__in=expired).update(
            lease_expires_at=timezone.now() - timedelta(seconds=1)
        )
        holder = Lease("model", 30, lambda state: True) if lease else None
        recorded = record_batch(
            outcomes, holder, self.counters_by_run.get(self.run.pk) if known else None
        )
        self.counters_by_run = recorded.counters_by_run
        assert set(recorded.accepted) == {state.id for state in chosen}
        self.model.event(events)
        self.take(recorded.leased)

    def outcome(self, state: Claimed, kind: str, values: Any) -> Outcome:
        if kind != "done":
            return Outcome(state, kind, error="broken" if kind in ("error", "lost") else "")
        outputs = [{"value": value} for value in ([values] if isinstance(values, int) else values)]
        return Outcome(
            state,
            "done",
            [payloads.dump(output) for output in outputs],
            outputs,
            not isinstance(values, int),
        )

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def report_late(self, data: Any) -> None:
        self.late.sort(key=lambda state: (self.key(state), state.attempt))
        state = data.draw(st.sampled_from(self.late))
        assert not record_batch(
            [self.outcome(state, "done", 1)], None, self.counters_by_run.get(self.run.pk)
        ).accepted

    @rule()
    def pause_or_resume(self) -> None:
        self.run.refresh_from_db()
        if not self.model.paused and self.run.status in ("queued", "running"):
            control.pause_run(self.run, SYSTEM)
            self.model.paused = True
        elif self.model.paused and self.run.status == "paused":
            control.resume_run(self.run, SYSTEM)
            self.model.paused = False

    @precondition(lambda self: self.model.states and self.model.status in ("running", "paused"))
    @rule(chance=st.integers(0, 9))
    def cancel(self, chance: int) -> None:
        """Cancel the run, but only one time in ten: most runs should live longer."""
        if chance == 0:
            control.cancel_run(self.run, SYSTEM)
            self.model.cancel()
            self.late += self.claimed
            self.claimed = []

    @invariant()
    def states_and_status_agree(self) -> None:
        if not hasattr(self, "run"):
            return
        plan = self.model.plan
        actual = {
            (state.identifier, state.path, state.retry_count): state.status
            for state in self.run.states.all()
        }
        expected = {
            (
                node,
                ".".join(f"{plan.nodes[name].index}:{item}" for name, item in path),
                retry,
            ): status
            for (node, path, retry), status in self.model.states.items()
        }
        assert actual == expected
        self.run.refresh_from_db()
        assert self.run.status == self.model.status or (
            self.run.status == "queued" and self.model.status == "running"
        )
        assert_counters_agree(self.run)

    def teardown(self) -> None:
        if hasattr(self, "run") and not Run.objects.get(pk=self.run.pk).ended:
            control.cancel_run(self.run, SYSTEM)


@pytest.mark.django_db
def test_the_engine_agrees_with_the_model(request):
    registry.store()
    examples = request.config.getoption("--model-steps") or (
        60 if TEST_DATABASE == "postgresql" else 30
    )
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        EngineAgainstModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=checks,
            database=None,
            phases=[Phase.generate],
        ),
    )
