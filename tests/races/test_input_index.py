"""A graph declares an input while a run of it is just starting."""

import threading

import pytest
from django.db import connection, connections, transaction

from graphs.auth.callers import SYSTEM
from graphs.models import IndexedInput
from runs.actions import index_inputs
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run
from runs.queries.filters import RunFilters
from tests.support.clusters import until
from tests.support.concurrency import at_once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.races]
DECLARING = {"settings": {"indexed_inputs": ["id"]}}


def waits_for_a_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0


def test_a_run_that_starts_before_the_declaration_and_commits_after_it_is_indexed(
    publish, database
):
    """Indexing waits for it, because it can't see it yet."""
    if database == "sqlite":
        return  # it has one writer at a time
    graph = publish("a")
    started, indexed = threading.Event(), threading.Event()

    def start():
        with transaction.atomic():
            start_run(graph, RunOptions(run_id="slow", inputs={"id": 1}))
            started.set()
            until(lambda: indexed.is_set() or waits_for_a_lock(), 20)

    def index():
        try:
            assert started.wait(20)
            publish("a", **DECLARING)
            index_inputs.continue_indexing(60)
        finally:
            indexed.set()

    threads = [threading.Thread(target=_closing(call)) for call in (start, index)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert IndexedInput.objects.get().indexed_from == 0
    matching = RunFilters.of_mapping({"search": "input:id=1"}).apply(Run.objects.all(), SYSTEM)
    assert [run.run_id for run in matching] == ["slow"]


def _closing(call):
    def close_after():
        try:
            call()
        finally:
            connections.close_all()

    return close_after


def test_runs_start_while_an_input_is_declared_and_indexed(publish):
    graph = publish("a")

    def start(worker):
        for at in range(10):
            start_run(graph, RunOptions(run_id=f"{worker}-{at}", inputs={"id": 1}))

    def declare():
        publish("a", **DECLARING)
        index_inputs.continue_indexing(60)

    results = at_once(lambda: start("x"), lambda: start("y"), declare)
    assert results == [None] * 3
    matching = RunFilters.of_mapping({"search": "input:id=1"}).apply(Run.objects.all(), SYSTEM)
    assert matching.count() == 20
