"""What a worker can start beside what it already runs, and how long its nodes usually take.

Each waiting node has a node thread of its own. The computing nodes share a *lane*: a node thread
that calls them one after the other, a batch of fast ones or a single one that is slow or new.

While a slow node keeps the lane busy, another lane opens beside it. It takes what is not known to
be slow, so that a node of 20 s does not keep a node of 1 ms waiting, nor one tenant the others.
Each namespace may keep only some of the lanes busy.
"""

from collections import Counter
from collections.abc import Callable, Collection

from graphs.nodes.base import registry
from runs.engine.node_threads import NodeThread
from runs.engine.record import MAX_BATCH
from runs.engine.turns import BacklogKey, Group, any_backlog
from runs.engine.types import NewState
from statemanager.conf import conf

BATCH_SECONDS = 0.020
FAST_SECONDS = 0.002
# A call that takes longer keeps its lane busy, and another lane opens.
BUSY_SECONDS = 0.1
SLOW_SECONDS = 2.0
MAX_LANES = 4
MAX_BUSY_LANES = 2  # of one namespace
MAX_KNOWN_BACKLOGS = 10_000


class Lanes:
    """The node threads of a worker."""

    def __init__(self) -> None:
        self.threads: list[NodeThread] = []
        self.speed: dict[str, float] = {}  # seconds that a call of each node usually takes
        self._speed_in: dict[BacklogKey, float] = {}  # the same by namespace

    # --- what can start ------------------------------------------------------------------------

    def groups(self, late: bool = False) -> list[Group]:
        """The nodes of which the worker can start states now, with their numbers.

        A batch of nodes that have been fast, but one state of a node that is slow or new. Of
        nodes that wait, as many as there are threads; of those with side effects only one, so
        that a worker that dies leaves just one effect in doubt.

        A worker that is `late`, because it has been busy for long, takes nothing that would keep
        it busy for longer, as far as is known.
        """
        computing = [name for name, node in registry.items() if not node.waits]
        fast = [name for name in computing if self.speed.get(name, 1) < FAST_SECONDS]
        slow = [name for name in computing if name not in fast]
        waiting = [name for name, node in registry.items() if node.waits]
        sending = [name for name in waiting if registry[name].side_effects]
        reading = [name for name in waiting if not registry[name].side_effects]

        running = [thread.kind for thread in self.threads]
        running_sending = sum(name in sending for name in running)
        running_reading = sum(name in reading for name in running)
        is_open = self._is_open()
        suits = self._besides(self._busy()) if late or self._computing() else any_backlog
        return [
            Group(fast, MAX_BATCH if is_open else 0, suits),
            Group(slow, 1 if is_open else 0, suits),
            Group(sending, 0 if late else 1 - running_sending),
            Group(reading, 0 if late else conf.NODE_THREADS - running_reading),
        ]

    def chooser(self) -> Callable[[NewState], bool]:
        """Decides which successors the worker takes at once (`Lease.wants`).

        It takes what fits into the next batch, and of slow nodes only the first state, unless
        something else runs.
        """
        is_open = self._is_open()
        is_idle = not any(thread.current for thread in self.threads)
        suits = self._besides(self._busy()) if self._computing() else any_backlog
        room = BATCH_SECONDS
        fast = 0
        slow = 0

        def wants(state: NewState) -> bool:
            nonlocal room, fast, slow
            node = state.run.plan.nodes[state.identifier]
            if node.worker_namespace or node.kind not in registry or not is_open:
                return False
            seconds = 1.0 if registry[node.kind].waits else self.speed.get(node.kind, 1.0)
            if seconds >= FAST_SECONDS:
                slow += 1
                return is_idle and slow == 1 and fast == 0
            if not suits((state.run.namespace_id, node.kind)):
                return False
            fast += 1
            room -= seconds
            return slow == 0 and fast <= MAX_BATCH and room > 0

        return wants

    def are_busy(self) -> bool:
        """Whether a node, of any kind, has been running for BUSY_SECONDS."""
        return any(thread.seconds > BUSY_SECONDS for thread in self.threads)

    def runs_slow_node(self) -> bool:
        """Whether a node, of any kind, has been running for SLOW_SECONDS."""
        return any(thread.seconds > SLOW_SECONDS for thread in self.threads)

    # --- what runs -----------------------------------------------------------------------------

    def _computing(self) -> list[NodeThread]:
        return [thread for thread in self.threads if not registry[thread.kind].waits]

    def _is_open(self) -> bool:
        """Whether a lane is free, or may open because all others are busy."""
        computing = self._computing()
        return len(computing) < MAX_LANES and all(
            thread.seconds > BUSY_SECONDS for thread in computing
        )

    def _busy(self) -> list[BacklogKey]:
        """What keeps the lanes busy."""
        return [thread.backlog for thread in self._computing() if thread.backlog is not None]

    def _besides(self, busy: Collection[BacklogKey]) -> Callable[[BacklogKey], bool]:
        """Tells what another lane may take beside busy ones. Side effects stay in one lane."""
        lanes = Counter(namespace for namespace, _ in busy)

        def suits(backlog: BacklogKey) -> bool:
            namespace, node = backlog
            return (
                backlog not in busy
                and not registry[node].side_effects
                and lanes[namespace] < MAX_BUSY_LANES
                and self._speed_in.get(backlog, 0.0) < BUSY_SECONDS
            )

        return suits

    # --- how long calls take -------------------------------------------------------------------

    def learn(self, backlog: BacklogKey, seconds: float) -> None:
        """Note how long a call took. One slow call, on a busy machine, makes no slow node."""
        if len(self._speed_in) >= MAX_KNOWN_BACKLOGS:
            self._speed_in.clear()
        _, node = backlog
        self.speed[node] = _usual(self.speed.get(node, seconds), seconds)
        self._speed_in[backlog] = _usual(self._speed_in.get(backlog, seconds), seconds)


def _usual(before: float, seconds: float) -> float:
    return 0.8 * before + 0.2 * min(seconds, 4 * before)
