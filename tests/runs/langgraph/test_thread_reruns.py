"""Reruns of LangGraph threads: ours are run again, those of outside programs wait for them."""

import pytest

pytest.importorskip("langgraph.checkpoint.base")

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.definition import errors
from runs.actions import bulk, bulk_runner, delete, recurring
from runs.actions.recurring import Recurrence
from runs.actions.rerun import RerunOptions, rerun
from runs.engine.answer import answer_state
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.external import queue
from runs.langgraph.saver import DjangoSaver
from runs.models import QueueEntry, RecurringRerun, Run, State
from runs.queries import wait_reasons
from tests.support import langgraph_apps
from tests.support.api_client import ApiClient
from tests.support.checkpoints import place, put
from tests.support.runs import outputs, outside

pytestmark = pytest.mark.django_db(transaction=True)
APPS = ("doubling", "two_questions")


@pytest.fixture(autouse=True)
def _apps(conf):
    conf.LANGGRAPH_APPS = {name: f"{langgraph_apps.__name__}.{name}" for name in APPS}


def start(publish, drain, app="doubling", value=None, **options):
    graph = publish(
        "lg>end",
        name=app,
        kinds={"lg": "langgraph.run"},
        inputs={"lg": {"app": app, "input": value or {"amount": 3}}},
    )
    run = start_run(graph, RunOptions(run_id="driver", **options))
    drain()
    run.refresh_from_db()
    return run


def thread_of(run):
    return Run.objects.get(run_id=outputs(run, "lg")[0]["thread"])


def test_a_rerun_of_a_thread_of_ours_runs_it_again(publish, drain, make_key):
    run = start(publish, drain)
    thread = thread_of(run)
    api = ApiClient(make_key("run"))
    status, answer = api("POST", f"/rerun/{thread.run_id}")
    assert (status, answer["parent_thread_id"]) == (200, "driver")
    drain()
    again = Run.objects.get(run_id=answer["thread_id"])
    assert (again.status, again.parent, again.graph) == ("completed", run, run.graph)
    assert outputs(again, "lg")[0]["values"]["amount"] == 6
    new_thread = thread_of(again)
    assert new_thread.pk != thread.pk
    assert new_thread.status == "completed"
    assert not Run.objects.filter(run_id=f"{thread.run_id}_rerun_1").exists()
    assert not QueueEntry.objects.exists()
    # A rerun of the rerun's thread is one of the rerun.
    assert rerun(new_thread, SYSTEM).parent == again


def test_a_thread_that_asked_is_rerun_from_its_start(publish, drain):
    run = start(publish, drain, "two_questions", {"said": []})
    state = State.objects.get(run=run)
    answer_state(run, state.pk, "one", SYSTEM)
    drain()
    [thread] = Run.objects.filter(graph=None)
    assert "The node lg of the run driver runs this thread." in wait_reasons.why_waiting(thread)[0]
    again = rerun(thread, SYSTEM)
    drain()
    assert State.objects.get(run=again).waiting_for["question"] == "first?"
    assert State.objects.get(run=run).waiting_for["question"] == "second?"


def test_the_options_of_a_rerun_are_for_the_run_of_the_node(publish, drain):
    run = start(publish, drain)
    again = rerun(thread_of(run), SYSTEM, RerunOptions(node="end"))
    drain()
    again.refresh_from_db()
    assert (again.parent, again.status) == (run, "completed")
    assert again.origin["how"].startswith("from end")


def test_a_thread_whose_run_was_deleted_says_so(publish, drain, make_key, admin_client):
    run = start(publish, drain)
    thread = thread_of(run)
    delete.delete_run(run)
    status, answer = ApiClient(make_key("run"))("POST", f"/rerun/{thread.run_id}")
    assert status == 409
    assert "that run was deleted" in answer["detail"]
    assert admin_client.get(f"/admin/run-manager/rerun/{thread.pk}/").status_code == 302
    assert not Run.objects.exclude(pk=thread.pk).exists()


def test_an_operation_on_a_run_and_its_thread_reruns_once(publish, drain, admin_user):
    run = start(publish, drain)
    pks = [run.pk, thread_of(run).pk]
    operation = bulk.ask("rerun", {"pk": pks}, caller_of_user(admin_user))
    assert bulk_runner.run_inline(operation).failed == 0
    assert [each.run_id for each in Run.objects.filter(parent=run)] == ["driver_rerun_1"]


def test_a_recurring_rerun_of_a_thread_is_one_of_its_run(publish, drain):
    run = start(publish, drain)
    recurring.repeat(thread_of(run), SYSTEM, Recurrence("0 6 * * *"))
    assert RecurringRerun.objects.get().run == run


def test_the_page_of_a_rerun_asks_about_the_run_of_the_node(publish, drain, admin_client):
    run = start(publish, drain)
    answer = admin_client.get(f"/admin/run-manager/rerun/{thread_of(run).pk}/", follow=True)
    assert answer.redirect_chain == [(f"/admin/run-manager/rerun/{run.pk}/", 302)]
    assert "The node lg of the run driver runs this thread." in answer.content.decode()


# --- threads of outside programs -----------------------------------------------------------------


def test_the_rerun_of_an_outside_thread_waits_for_its_program(namespace):
    put(DjangoSaver("alpha"), "theirs")
    new_run = rerun(Run.objects.get(run_id="theirs"), SYSTEM)
    assert [entry.run for entry in queue.waiting(SYSTEM)] == [new_run]


def test_nobody_can_say_of_a_thread_of_theirs_that_it_is_ours(make_key, publish, drain):
    """What says so is in no member of a request."""
    run = start(publish, drain)
    mark = {"started_by": {"run": run.pk, "run_id": "driver", "node": "lg"}}
    body = {"sop": "", "initial_data": mark, "thread_id": "t", "metadata": {"origin": mark, **mark}}
    assert ApiClient(make_key("run"))("POST", "/start", body)[0] == 200
    assert rerun(Run.objects.get(run_id="t"), SYSTEM).run_id == "t_rerun_1"


def test_an_application_of_today_takes_its_thread_out_of_the_queue(namespace):
    run = outside(run_id="t", enqueue=True)
    put(DjangoSaver("alpha"), "t")
    assert not queue.waiting(SYSTEM).filter(run=run)


def test_an_application_that_claimed_a_thread_names_its_claim(namespace):
    run = outside(run_id="t", enqueue=True)
    app = langgraph_apps.doubling(DjangoSaver("alpha"))
    [entry] = queue.claim(queue.waiting(SYSTEM), queue.Claimer("w", 60), 1)
    with pytest.raises(errors.Conflict, match="w holds this run"):
        app.invoke({"amount": 1}, place("t"))
    assert app.invoke({"amount": 1}, place("t", claim=entry.claim))["amount"] == 2
    run.refresh_from_db()
    assert run.status == "completed"


def test_an_application_that_lost_its_claim_writes_nothing_more(namespace):
    run = outside(run_id="t", enqueue=True)
    saver = DjangoSaver("alpha")
    queue.claim(queue.waiting(SYSTEM), queue.Claimer("w", 60), 1)
    QueueEntry.objects.update(claim=2, holder="v")
    with pytest.raises(errors.Conflict, match="v holds it now"):
        saver.put_writes(place("t", claim=1, checkpoint_id="1"), [("x", 1)], "task")
    assert not run.checkpoints.exists()
    assert not run.checkpoint_writes.exists()


def test_a_bulk_rerun_goes_on_behind_a_thread_whose_run_is_gone(publish, drain, admin_user):
    run = start(publish, drain)
    thread = thread_of(run)
    other = outside(run_id="other")
    delete.delete_run(run, SYSTEM)
    operation = bulk.ask("rerun", {"pk": [thread.pk, other.pk]}, caller_of_user(admin_user))
    bulk_runner.run_inline(operation)
    results = dict(operation.results.values_list("run_id", "done"))
    assert results == {thread.run_id: False, other.run_id: True}


def test_a_bulk_rerun_merges_inputs_over_those_of_the_run_of_the_node(publish, drain, admin_user):
    run = start(publish, drain, inputs={"customer": 7, "limit": 5})
    pks = [run.pk, thread_of(run).pk]
    params = {"inputs": {"limit": 9}}
    operation = bulk.ask("rerun", {"pk": pks}, caller_of_user(admin_user), params)
    assert bulk_runner.run_inline(operation).failed == 0
    [again] = Run.objects.filter(parent=run)
    assert again.initial_data == {"customer": 7, "limit": 9}
