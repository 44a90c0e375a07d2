"""Notifications: which events of runs are told, to whom, and what happens if that fails."""

import base64
import hashlib
import hmac
import os
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Namespace, NamespaceMembership
from graphs.services import secrets
from graphs.web import ttl_cache
from runs.actions import delete, notification_rules, notifications
from runs.actions.notifications import deliver, waiting
from runs.cluster import tasks
from runs.core import sql
from runs.engine import control
from runs.engine.answer import answer_state
from runs.engine.new_run import RunOptions
from runs.engine.retry import retry_failed
from runs.engine.start import start_outside, start_run
from runs.models import (
    AuditEntry,
    NotificationEvent,
    NotificationMessage,
    NotificationRule,
    Run,
)
from tests.support.api_client import ApiClient
from tests.support.clusters import until
from tests.support.concurrency import at_once
from tests.support.pages import text
from tests.support.receiver import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver(conf):
    conf.ALLOW_PRIVATE_ADDRESSES = True
    with receiving() as running:
        yield running


def rule_of(target, namespace=None, **values):
    channel = "mail" if "@" in target else "webhook"
    values = {"name": "rule", "every_seconds": 0, **values}
    rule = NotificationRule(namespace=namespace, target=target, channel=channel, **values)
    rule.secret = notification_rules.save(rule, SYSTEM)
    ttl_cache.forget()
    return rule


@pytest.fixture
def failing(publish, drain):
    """Start runs whose only node fails, and let them fail."""

    def fail(*run_ids, name="shop", **options):
        graph = publish("a", name=name, kinds={"a": "test.fail"}, **options)
        for run_id in run_ids:
            start_run(graph, RunOptions(run_id=run_id))
        drain()
        return graph

    return fail


def let_time_pass(seconds=10**6):
    later = timedelta(seconds=seconds)
    for message in NotificationMessage.objects.filter(status="waiting"):
        message.due_at -= later
        message.save()
    for rule in NotificationRule.objects.exclude(next_at=None):
        rule.next_at -= later
        rule.save()


# --- which events --------------------------------------------------------------------------------


def events():
    return list(NotificationEvent.objects.order_by("pk").values_list("run__run_id", "event"))


def test_each_end_of_a_run_is_an_event_of_the_rules_that_ask_for_it(publish, drain, failing):
    rule_of("a@x.org", name="all", on_cancelled=True, on_completed=True, on_waiting=True)
    rule_of("a@x.org", name="usual")
    failing("failed")
    start_run(publish("a", name="ok"), RunOptions(run_id="completed"))
    partial = publish("a>b", name="partial", kinds={"b": "test.fail"})
    start_run(partial, RunOptions(run_id="partial"))
    asking = publish("q", name="ask", kinds={"q": "test.ask"})
    waiting_run = start_run(asking, RunOptions(run_id="waiting"))
    drain()
    cancelled = start_run(publish("a", name="ok"), RunOptions(run_id="cancelled"))
    control.cancel_run(cancelled, SYSTEM)
    found = {
        rule.name: {
            (event.run.run_id, event.event)
            for event in NotificationEvent.objects.filter(rule=rule).select_related("run")
        }
        for rule in NotificationRule.objects.all()
    }
    usual = {("failed", "failed"), ("partial", "partial")}
    assert found["usual"] == usual
    assert found["all"] == usual | {
        ("completed", "completed"), ("waiting", "waiting"), ("cancelled", "cancelled"),
    }  # fmt: skip

    answer_state(waiting_run, waiting_run.states.get().pk, 5, SYSTEM)
    drain()
    assert ("waiting", "completed") in events()


def test_a_run_that_fails_again_is_told_again(failing, drain):
    rule_of("a@x.org")
    failing("again")
    run = Run.objects.get()
    retry_failed(run, SYSTEM)
    drain()
    assert events() == [("again", "failed")] * 2


def test_a_rule_holds_for_its_namespace_and_its_graph(failing, publish):
    other = Namespace.objects.create(name="beta")
    graph = failing("first", name="one")
    rule_of("a@x.org", graph.namespace, name="of the graph", graph=graph)
    rule_of("a@x.org", graph.namespace, name="of the namespace")
    rule_of("a@x.org", other, name="of another")
    rule_of("a@x.org", name="of all")
    rule_of("a@x.org", name="disabled", enabled=False)
    failing("second", name="one")
    failing("third", name="two")
    failing("fourth", name="three", namespace=other)
    found = {
        rule.name: sorted(
            NotificationEvent.objects.filter(rule=rule).values_list("run__run_id", flat=True)
        )
        for rule in NotificationRule.objects.all()
    }
    assert found == {
        "of the graph": ["second"],
        "of the namespace": ["second", "third"],
        "of another": ["fourth"],
        "of all": ["fourth", "second", "third"],
        "disabled": [],
    }


def test_an_outside_program_that_reports_a_failure_is_an_event(namespace, make_key):
    rule_of("a@x.org")
    start_outside(namespace, RunOptions(run_id="outside"))
    api = ApiClient(make_key("run"))
    document = {"status": "failed"}
    status, body = api("PUT", "/runs/outside/checkpoint", document)
    assert status == 200, body
    assert events() == [("outside", "failed")]


def test_an_event_is_stored_with_the_change_or_not_at_all(failing):
    rule_of("a@x.org")
    with transaction.atomic():
        failing("undone")
        assert len(events()) == 1
        transaction.set_rollback(True)
    assert events() == []


def test_without_rules_nothing_is_stored(failing):
    failing("alone")
    assert not NotificationEvent.objects.exists()
    assert not waiting()


# --- webhooks ------------------------------------------------------------------------------------


def test_a_webhook_gets_a_signed_message(failing, receiver, conf):
    conf.PUBLIC_URL = "https://runs.example.org"
    rule = rule_of(receiver.url)
    failing("order-1")
    assert waiting()
    assert deliver() is False
    [(headers, body)] = receiver.requests
    message = NotificationMessage.objects.get()
    assert headers["webhook-id"] == str(message.pk)
    assert abs(int(headers["webhook-timestamp"]) - sql.clock().timestamp()) < 60
    key = base64.b64decode(rule.secret.removeprefix("whsec_"))
    signed = f"{message.pk}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"

    [sent] = receiver.bodies
    [event] = sent.pop("events")
    assert sent == {
        "id": str(message.pk), "rule": "rule", "test": False, "count": 1,
        "counts": {"failed": 1},
    }  # fmt: skip
    run = Run.objects.get()
    assert event.pop("at")
    assert event == {
        "event": "failed", "namespace": "alpha", "graph": "shop", "run_id": "order-1", "name": "",
        "status": "failed", "error": "a: ValueError: broken",
        "url": f"https://runs.example.org/admin/run-manager/run/{run.pk}/",
    }  # fmt: skip
    assert (message.status, message.attempts) == ("delivered", 1)
    assert not NotificationEvent.objects.exists()
    assert not waiting()


def test_many_events_are_one_message(failing, receiver, monkeypatch):
    monkeypatch.setattr(notifications, "MAX_LISTED", 3)
    rule_of(receiver.url, every_seconds=60)
    failing(*(f"run-{number}" for number in range(5)))
    deliver()
    [sent] = receiver.bodies
    assert (sent["count"], len(sent["events"])) == (5, 3)
    failing("later")
    assert not waiting(), "the next message has to wait"
    deliver()
    assert len(receiver.requests) == 1
    let_time_pass()
    deliver()
    assert [body["count"] for body in receiver.bodies] == [5, 1]


def test_a_failed_delivery_is_tried_again_with_the_same_id(failing, receiver):
    rule_of(receiver.url)
    failing("one")
    receiver.answers += [500, 404]
    deliver()
    message = NotificationMessage.objects.get()
    assert (message.status, message.attempts) == ("waiting", 1)
    assert "answered 500" in message.error
    assert not waiting()

    failing("two")
    assert not waiting(), "what happens meanwhile waits for the next message"
    for _ in range(2):
        let_time_pass()
        deliver()
    assert len({headers["webhook-id"] for headers, _ in receiver.requests[:3]}) == 1
    message.refresh_from_db()
    assert (message.status, message.attempts, message.error) == ("delivered", 3, "")
    assert [[e["run_id"] for e in body["events"]] for body in receiver.bodies] == [
        ["one"], ["one"], ["one"], ["two"],
    ]  # fmt: skip


def test_after_the_last_attempt_a_message_has_failed_and_can_be_sent_again(
    failing, receiver, monkeypatch
):
    monkeypatch.setattr(notifications, "MAX_ATTEMPTS", 2)
    rule_of(receiver.url)
    failing("one")
    receiver.answers += [500, 503]
    for _ in range(3):
        deliver()
        let_time_pass()
    message = NotificationMessage.objects.get()
    assert (message.status, message.attempts) == ("failed", 2)
    assert notifications.replay([message]) == 1
    deliver()
    message.refresh_from_db()
    assert message.status == "delivered"
    assert [body["count"] for body in receiver.bodies] == [1, 1, 1]
    assert notifications.replay([message]) == 0


def test_a_webhook_that_is_gone_disables_its_rule(failing, receiver):
    rule = rule_of(receiver.url)
    failing("one")
    receiver.answers.append(410)
    deliver()
    rule.refresh_from_db()
    assert not rule.enabled
    assert AuditEntry.objects.filter(action="change_rule", via="system").count() == 1
    message = NotificationMessage.objects.get()
    assert (message.status, message.error) == (
        "failed", "the webhook answered 410; the rule was disabled",
    )  # fmt: skip


def test_a_message_whose_sender_died_is_sent_again(failing, receiver):
    rule_of(receiver.url)
    failing("one")
    taken = notifications._take()
    assert taken.attempts == 1
    assert not waiting(), "another sender holds it"
    let_time_pass()
    deliver()
    assert receiver.requests[0][0]["webhook-id"] == str(taken.pk)
    notifications._fail(taken, "the first sender was slow")
    taken.refresh_from_db()
    assert taken.status == "delivered", "whose lease is over can't fail it"


def test_a_message_whose_senders_always_die_has_failed_in_the_end(failing, receiver, monkeypatch):
    monkeypatch.setattr(notifications, "MAX_ATTEMPTS", 2)
    rule_of(receiver.url)
    failing("one")
    for _ in range(3):
        notifications._take()
        let_time_pass()
    message = NotificationMessage.objects.get()
    assert (message.status, message.attempts) == ("failed", 2)
    deliver()
    assert receiver.requests == []


def test_a_delivery_that_outlasted_its_lease_is_recorded(failing, receiver):
    rule_of(receiver.url)
    failing("one")
    slow = notifications._take()
    let_time_pass()
    assert notifications._take() == slow, "another sender has taken it"
    notifications._send(slow)
    assert NotificationMessage.objects.get().status == "delivered"


def test_private_addresses_are_refused(failing, receiver, conf):
    conf.ALLOW_PRIVATE_ADDRESSES = False
    rule_of(receiver.url)
    failing("one")
    deliver()
    assert receiver.requests == []
    assert "private address" in NotificationMessage.objects.get().error


def test_a_deleted_run_takes_its_events_along(failing, receiver):
    rule_of(receiver.url)
    failing("kept", "gone")
    delete.delete_runs([Run.objects.get(run_id="gone").pk], SYSTEM)
    deliver()
    assert [[event["run_id"] for event in body["events"]] for body in receiver.bodies] == [["kept"]]
    failing("alone")
    notifications._take()
    delete.delete_runs([Run.objects.get(run_id="alone").pk], SYSTEM)
    let_time_pass()
    deliver()
    assert len(receiver.requests) == 1, "a message about nothing is not sent"
    assert not NotificationMessage.objects.filter(status="waiting").exists()


@pytest.mark.django_db(transaction=True)
def test_several_workers_send_each_message_once(failing, receiver):
    for number in range(5):
        rule_of(receiver.url, name=f"rule {number}")
    failing("one", "two")
    at_once(*(deliver for _ in range(6)))
    ids = [headers["webhook-id"] for headers, _ in receiver.requests]
    assert len(ids) == len(set(ids)) == 5
    assert [body["count"] for body in receiver.bodies] == [2] * 5


# --- mail ----------------------------------------------------------------------------------------


def test_mail_says_what_happened(failing):
    rule_of("ann@example.org, bob@example.org")
    failing("order-1", name="shop\nBcc: x@example.org"[:4])
    deliver()
    [sent] = mail.outbox
    assert sent.to == ["ann@example.org", "bob@example.org"]
    assert sent.subject == "shop failed"
    assert "order-1 of alpha/shop failed at " in sent.body
    assert "a: ValueError: broken" in sent.body
    message = NotificationMessage.objects.get()
    assert sent.extra_headers["Message-ID"] == f"<{message.pk}@statemanager>"


def test_mail_about_many_runs(failing, monkeypatch):
    monkeypatch.setattr(notifications, "MAX_LISTED", 2)
    rule_of("ann@example.org")
    failing("one", "two", "three")
    deliver()
    [sent] = mail.outbox
    assert sent.subject == "3 runs: 3 failed"
    assert "and 1 more" in sent.body


def test_a_line_break_in_a_name_stays_out_of_the_subject(publish, drain):
    rule_of("ann@example.org")
    graph = publish("a", kinds={"a": "test.fail"})
    start_run(graph, RunOptions(run_id="r", name="Orders\nBcc: eve@example.org"))
    drain()
    deliver()
    [sent] = mail.outbox
    assert sent.subject == "Orders Bcc: eve@example.org failed"
    assert sent.recipients() == ["ann@example.org"]


def test_a_mail_server_that_is_away_is_tried_again(failing, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    rule_of("ann@example.org")
    failing("one")
    deliver()
    message = NotificationMessage.objects.get()
    assert message.status == "waiting"
    assert "the mail could not be sent" in message.error


# --- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"target": "ftp://x.org", "channel": "webhook"},
        {"target": "http://", "channel": "webhook"},
        {"target": "http://[", "channel": "webhook"},
        {"target": "ann", "channel": "mail"},
        {"target": "", "channel": "mail"},
        {"target": ", ".join(f"a{n}@x.org" for n in range(21)), "channel": "mail"},
        {"target": "ann@x.org\nBcc: eve@x.org", "channel": "mail"},
        {"name": " "},
        {"on_failed": False, "on_partial": False},
        {"every_seconds": 10**6},
    ],
)
def test_a_rule_that_cannot_work_is_refused(values):
    rule = NotificationRule(
        **{"name": "rule", "channel": "mail", "target": "ann@example.org", **values}
    )
    with pytest.raises(errors.Malformed):
        notification_rules.save(rule, SYSTEM)
    assert not NotificationRule.objects.exists()


def test_names_and_numbers_of_rules_have_limits(namespace, monkeypatch):
    for where in (None, namespace):
        rule_of("a@x.org", where)
        with pytest.raises(errors.Conflict, match="named"):
            rule_of("a@x.org", where)
    monkeypatch.setattr(notification_rules, "MAX_RULES", 1)
    with pytest.raises(errors.Conflict, match="at most 1"):
        rule_of("a@x.org", namespace, name="second")


def test_the_secret_survives_a_rotation(receiver, conf, failing):
    rule = rule_of(receiver.url)
    new = base64.urlsafe_b64encode(b"n" * 32).decode()
    conf.SECRETS_KEYS = [new, *conf.SECRETS_KEYS]
    call_command("rotate_secrets")
    conf.SECRETS_KEYS = [new]
    rule.refresh_from_db()
    assert secrets.decrypt(rule.token, "rule") == rule.secret
    failing("one")
    deliver()
    assert NotificationMessage.objects.get().status == "delivered"


def test_a_test_message_arrives_at_once_and_is_tried_once(receiver, failing):
    rule = rule_of(receiver.url, every_seconds=3600)
    failing("one")
    deliver()
    receiver.answers.append(500)
    notification_rules.send_test(rule, SYSTEM)
    deliver()
    notification_rules.send_test(rule, SYSTEM)
    deliver()
    assert [body["test"] for body in receiver.bodies] == [False, True, True]
    statuses = NotificationMessage.objects.filter(is_test=True).order_by("created_at")
    assert list(statuses.values_list("status", flat=True)) == ["failed", "delivered"]


def test_one_test_at_a_time_and_none_of_a_disabled_rule():
    rule = rule_of("ann@example.org")
    notification_rules.send_test(rule, SYSTEM)
    with pytest.raises(errors.Conflict, match="on its way"):
        notification_rules.send_test(rule, SYSTEM)
    deliver()
    notification_rules.send_test(rule, SYSTEM)
    NotificationRule.objects.update(enabled=False)
    with pytest.raises(errors.Conflict, match="disabled"):
        notification_rules.send_test(rule, SYSTEM)


def test_a_change_keeps_the_secret_and_the_times_of_others(receiver, failing):
    rule = rule_of(receiver.url, every_seconds=3600)
    old = NotificationRule.objects.get()
    failing("one")
    deliver()
    secret = notification_rules.renew_secret(rule, SYSTEM)
    old.every_seconds = 60
    assert notification_rules.save(old, SYSTEM) == ""
    stored = NotificationRule.objects.get()
    assert secrets.decrypt(stored.token, "rule") == secret
    assert stored.next_at == stored.last_sent_at + timedelta(seconds=60)
    notification_rules.remove(stored, SYSTEM)
    with pytest.raises(errors.NotFound):
        notification_rules.save(old, SYSTEM)
    assert not NotificationRule.objects.exists()


def test_the_address_of_a_webhook_is_shown_to_those_who_may_change_it(namespace, make_key):
    rule_of("https://hooks.example.org/services/T0/secret", namespace)
    [shown] = ApiClient(make_key("run"))("GET", "/notification-rules")[1]["rules"]
    assert shown["target"] == "https://hooks.example.org/services/T0/secret"
    [shown] = ApiClient(make_key("read"))("GET", "/notification-rules")[1]["rules"]
    assert shown["target"] == "https://hooks.example.org"


def test_old_events_are_not_told_when_their_message_is_forgotten(failing, receiver, monkeypatch):
    monkeypatch.setattr(notifications, "MAX_ATTEMPTS", 1)
    rule_of(receiver.url)
    failing("one")
    receiver.answers.append(500)
    deliver()
    NotificationMessage.objects.update(created_at=sql.clock() - notifications.KEPT * 2)
    notifications.forget_old()
    assert NotificationMessage.objects.exists(), "its event is younger"
    NotificationEvent.objects.update(at=sql.clock() - notifications.KEPT * 2)
    notifications.forget_old()
    assert not NotificationMessage.objects.exists()
    assert not NotificationEvent.objects.exists()
    assert not waiting()


def test_old_messages_and_events_without_a_rule_are_forgotten(failing):
    rule = rule_of("a@x.org")
    failing("one")
    NotificationMessage.objects.create(rule=rule, status="failed")
    NotificationMessage.objects.create(rule=rule, status="waiting")
    NotificationMessage.objects.update(created_at=sql.clock() - notifications.KEPT * 2)
    notifications.forget_old()
    assert [message.status for message in NotificationMessage.objects.all()] == ["waiting"]
    assert len(events()) == 1
    NotificationMessage.objects.all().delete()
    NotificationRule.objects.filter(pk=rule.pk)._raw_delete("default")
    notifications.forget_old()
    assert events() == []


# --- the API -------------------------------------------------------------------------------------


def test_the_api_makes_changes_tests_and_deletes_rules(make_key, receiver, publish):
    api = ApiClient(make_key("run"))
    graph = publish("a", name="shop")
    body = {"name": "shop", "target": receiver.url, "graph_id": graph.pk, "events": ["completed"]}
    status, made = api("POST", "/notification-rules", body)
    assert status == 201, made
    assert made["secret"].startswith("whsec_")
    assert (made["namespace"], made["events"], made["enabled"]) == ("alpha", ["completed"], True)
    path = f"/notification-rules/{made['id']}"
    assert api("GET", path)[1]["secret"] is None
    assert api("POST", "/notification-rules", body)[0] == 409

    status, changed = api("PATCH", path, {"events": ["failed", "waiting"], "every_seconds": 5})
    assert (status, changed["events"], changed["every_seconds"]) == (200, ["failed", "waiting"], 5)
    assert changed["secret"] is None
    assert api("POST", f"{path}/test")[0] == 201
    deliver()
    [message] = api("GET", f"{path}/messages")[1]["messages"]
    assert (message["status"], message["test"]) == ("delivered", True)
    assert api("DELETE", path)[0] == 204
    assert api("GET", path)[0] == 404
    actions = AuditEntry.objects.filter(action__endswith="_rule").order_by("pk")
    assert list(actions.values_list("action", flat=True)) == [
        "add_rule", "change_rule", "test_rule", "delete_rule",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"target": "ftp://x"}, 422),
        ({"events": ["exploded"]}, 422),
        ({"events": []}, 422),
        ({"every_seconds": -1}, 422),
        ({"graph_id": 999999}, 404),
        ({"namespace": "beta"}, 404),
        ({"namespace": None}, 403),
        ({"colour": "red"}, 422),
    ],
)
def test_the_api_refuses_what_is_no_rule(make_key, body, status):
    api = ApiClient(make_key("run"))
    Namespace.objects.create(name="beta")
    sent = {"name": "rule", "target": "https://example.org/hook", **body}
    assert api("POST", "/notification-rules", sent)[0] == status
    assert not NotificationRule.objects.exists()


def test_rules_of_all_namespaces_are_those_of_admins(make_key):
    sent = {"name": "all", "target": "https://example.org/hook", "namespace": None}
    admin = ApiClient(make_key("admin", namespaces=()))
    status, made = admin("POST", "/notification-rules", sent)
    assert (status, made["namespace"]) == (201, None)
    assert admin("POST", "/notification-rules", {**sent, "namespace": "unknown"})[0] == 404
    other = ApiClient(make_key("admin"))
    assert other("GET", "/notification-rules")[1]["rules"] == []
    assert other("DELETE", f"/notification-rules/{made['id']}")[0] == 404


# --- the admin -----------------------------------------------------------------------------------

ADMIN = "/admin/statemanager_runs/notificationrule/"
FORM = {
    "name": "new", "on_failed": "on", "channel": "mail", "target": "ann@example.org",
    "every_seconds": "60", "enabled": "on",
}  # fmt: skip


def test_the_admin_refuses_in_words(admin_client, monkeypatch):
    refused = admin_client.post(f"{ADMIN}add/", {**FORM, "target": "ann"})
    assert "is not a mail address" in text(refused)
    monkeypatch.setattr(notification_rules, "MAX_RULES", 0)
    assert "at most 0 rules" in text(admin_client.post(f"{ADMIN}add/", FORM))
    assert not NotificationRule.objects.exists()


def test_staff_change_only_the_rules_of_namespaces_in_which_they_may(namespace):
    """Ann has Django's permissions on all rules, but roles in single namespaces."""
    other = Namespace.objects.create(name="beta")
    here = rule_of("a@x.org", namespace, name="here")
    there = rule_of("a@x.org", other, name="there")
    of_all = rule_of("a@x.org", name="of all")
    failed = there.messages.create(status="failed")
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__contains="notification"))
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="operator")
    NamespaceMembership.objects.create(namespace=other, user=user, role="viewer")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    for rule in (there, of_all):
        assert client.post(f"{ADMIN}{rule.pk}/change/", FORM).status_code == 403
        assert client.post(f"{ADMIN}{rule.pk}/delete/", {"post": "yes"}).status_code == 403
    chosen = {"_selected_action": [here.pk, there.pk, of_all.pk]}
    page = text(client.post(ADMIN, {"action": "send_test", **chosen}, follow=True))
    assert "A test of here is on its way." in page
    assert "You may not change the rule there." in page
    client.post(ADMIN, {"action": "delete_selected", "post": "yes", **chosen})
    assert set(NotificationRule.objects.values_list("name", flat=True)) == {"there", "of all"}
    again = {"action": "send_again", "_selected_action": [failed.pk]}
    client.post("/admin/statemanager_runs/notificationmessage/", again)
    failed.refresh_from_db()
    assert failed.status == "failed"


# --- workers -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_slow_receiver_keeps_no_node_waiting(publish, receiver, executor, monkeypatch):
    monkeypatch.setattr(tasks, "_executor", (os.getpid(), executor))
    rule_of(receiver.url)
    failing = publish("a", name="fails", kinds={"a": "test.fail"})
    start_run(failing)
    receiver.may_answer.clear()
    tasks.drain()
    until(lambda: receiver.requests, 10)
    other = start_run(publish("a", name="other"))
    tasks.drain()
    other.refresh_from_db()
    assert other.status == "completed"
    assert NotificationMessage.objects.get().status == "waiting"
    receiver.may_answer.set()
    until(lambda: NotificationMessage.objects.get().status == "delivered", 10)
    tasks._sender.join(10)
