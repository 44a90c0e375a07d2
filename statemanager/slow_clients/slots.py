"""Places that are given to those who wait in their order. For use in one event loop."""

import asyncio
from collections import deque

from statemanager.slow_clients.client import Client, Gone

WAIT_SECONDS = 30


class Busy(Exception):
    """No place became free in time."""


class Slots:
    def __init__(self, free: int) -> None:
        self.free = free
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, client: Client) -> None:
        """Take a place. Raises Busy, and Gone if the client goes while it waits."""
        if self.free:
            self.free -= 1
            return
        turn = client.loop.create_future()
        self._waiting.append(turn)
        await asyncio.wait(
            {turn, client.watch()}, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if turn.cancel():  # a turn that has come can't be cancelled
            raise Gone if client.watch().done() else Busy

    def give_back(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
