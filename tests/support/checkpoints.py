"""Stores checkpoints without running a LangGraph application."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("langgraph.checkpoint.base")
from langgraph.checkpoint.base import empty_checkpoint


def waited(make):
    """Return the result of the coroutine that `make` creates.

    It runs in a thread of its own: this one may have an event loop already.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def place(thread, **more):
    """The LangGraph config that addresses a thread, or a checkpoint of it."""
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **more}}


def put(saver, thread="t", values=None, parent="", **metadata):
    """Store a new checkpoint with these channel values; return its config."""
    checkpoint = empty_checkpoint()
    versions = {channel: saver.get_next_version(None, None) for channel in values or {}}
    checkpoint |= {"channel_values": dict(values or {}), "channel_versions": versions}
    config = place(thread, **({"checkpoint_id": parent} if parent else {}))
    return saver.put(config, checkpoint, {"source": "loop", "step": 0, **metadata}, versions)
