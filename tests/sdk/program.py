"""A worker program and its client, as a user of `exospherehost` writes them.

`program.py VERSION URI KEY NAMESPACE` registers nodes, puts a graph, triggers it and waits until
its run has ended. Then it prints the run and its states as `/v0` shows them. It runs in an
environment with that version of the package, and knows nothing of State Manager.
"""

import asyncio
import json
import sys
from datetime import timedelta

import aiohttp
from exospherehost import BaseNode, PruneSignal, ReQueueAfterSignal, Runtime, StateManager
from pydantic import BaseModel

VERSION, URI, KEY, NAMESPACE = sys.argv[1:5]
calls: dict[str, int] = {}  # how often Flaky was called with each item


class Start(BaseNode):
    class Inputs(BaseModel):
        count: str

    class Outputs(BaseModel):
        item: str

    class Secrets(BaseModel):
        pass

    async def execute(self):
        """Fan out into `count` items."""
        return [self.Outputs(item=str(at)) for at in range(int(self.inputs.count))]


class Flaky(BaseNode):
    class Inputs(BaseModel):
        item: str

    class Outputs(BaseModel):
        value: str

    class Secrets(BaseModel):
        pass

    async def execute(self):
        """Item 0 fails once, item 1 is queued again once, item 2 is pruned."""
        item = self.inputs.item
        calls[item] = calls.get(item, 0) + 1
        if item == "0" and calls[item] == 1:
            raise ValueError("the first try fails")
        if item == "1" and calls[item] == 1:
            raise ReQueueAfterSignal(timedelta(milliseconds=200))
        if item == "2":
            raise PruneSignal({"item": item}) if VERSION != "0.0.2b2" else PruneSignal()
        return self.Outputs(value=f"{item}{item}")


class Guarded(BaseNode):
    class Inputs(BaseModel):
        value: str

    class Outputs(BaseModel):
        text: str

    class Secrets(BaseModel):
        token: str

    async def execute(self):
        return self.Outputs(
            text=f"{self.inputs.value}:{len(self.secrets.token)}:{self.secrets.token}"
        )


class Close(BaseNode):
    class Inputs(BaseModel):
        count: str

    class Outputs(BaseModel):
        done: str

    class Secrets(BaseModel):
        pass

    async def execute(self):
        return self.Outputs(done=f"all {self.inputs.count}")


def node(identifier, kind, inputs, next_nodes, unites=None):
    return {
        "node_name": kind.__name__,
        "namespace": NAMESPACE,
        "identifier": identifier,
        "inputs": inputs,
        "next_nodes": next_nodes,
        "unites": unites,
    }


NODES = [
    node("start", Start, {"count": "initial"}, ["flaky"]),
    node("flaky", Flaky, {"item": "${{ start.outputs.item }}"}, ["guarded"]),
    node("guarded", Guarded, {"value": "got ${{ flaky.outputs.value }}"}, ["root", "close"]),
    node("root", Close, {"count": "${{ guarded.outputs.text }}"}, []),
    node("close", Close, {"count": "items"}, [], {"identifier": "head", "strategy": "ALL_SUCCESS"}),
]
HEAD = node("head", Close, {"count": "initial"}, ["start"])
SECRETS = {"token": "correct horse battery"}


async def put_and_trigger(manager):
    nodes = [HEAD, *NODES]
    nodes[1]["inputs"] = {"count": "4"}
    if VERSION.startswith("0.0.3"):
        from exospherehost import CronTrigger, GraphNodeModel, RetryPolicyModel, StoreConfigModel

        models = [GraphNodeModel(**node) for node in nodes]
        policy = RetryPolicyModel(max_retries=2, strategy="FIXED", backoff_factor=100)
        store = StoreConfigModel(required_keys=["who"], default_values={"greeting": "hello"})
        await manager.upsert_graph(
            "program", models, SECRETS, policy, store, [CronTrigger(expression="0 9 * * 1-5")]
        )
        return await manager.trigger(
            "program", inputs={"count": "given"}, store={"who": "me"}, start_delay=10
        )
    if VERSION == "0.0.2b3":
        policy = {"max_retries": 2, "strategy": "FIXED", "backoff_factor": 100}
        await manager.upsert_graph(
            "program", nodes, SECRETS, policy, {"required_keys": ["who"], "default_values": {}}
        )
        return await manager.trigger("program", inputs={"count": "given"}, store={"who": "me"})
    from exospherehost import TriggerState

    await manager.upsert_graph("program", nodes, SECRETS)
    return await manager.trigger(
        "program", state=TriggerState(identifier="head", inputs={"count": "given"})
    )


async def main():
    runtime = Runtime(
        namespace=NAMESPACE,
        name="program",
        nodes=[Start, Flaky, Guarded, Close],
        state_manager_uri=URI,
        key=KEY,
        poll_interval=0.05,
    )
    await runtime._register()
    started = await put_and_trigger(StateManager(NAMESPACE, URI, KEY))
    work = runtime.start()
    async with aiohttp.ClientSession(headers={"x-api-key": KEY}) as session:
        for _ in range(600):
            async with session.get(f"{URI}/v0/namespace/{NAMESPACE}/runs/1/10") as answer:
                rows = (await answer.json())["runs"]
            if rows and all(row["status"] != "PENDING" for row in rows):
                break
            await asyncio.sleep(0.05)
        async with session.get(
            f"{URI}/v0/namespace/{NAMESPACE}/states/run/{started['run_id']}"
        ) as answer:
            states = (await answer.json())["states"]
    work.cancel()
    print(json.dumps({"rows": rows, "states": states}))


asyncio.run(main())
