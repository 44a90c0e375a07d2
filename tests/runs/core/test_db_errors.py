"""Real errors of both databases: those that pass, and those that are the statement's fault."""

import sqlite3
from contextlib import closing

import pytest
from django.db import Error, OperationalError, connection, transaction
from django.test import Client

from graphs.models import Namespace
from runs.core import db_errors, sql

pytestmark = pytest.mark.django_db(transaction=True)


def error_of(*statements):
    """The error that the last of these statements raises, in one transaction."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    except Error as error:
        return error
    raise AssertionError("no error")


INSERT = "INSERT INTO statemanager_graphs_namespace (name, created_at) VALUES ('x', now())"
POSTGRES = {
    "read-only": (("SET LOCAL transaction_read_only = on", INSERT), "away"),
    "cut": (("SELECT pg_terminate_backend(pg_backend_pid())",), "away"),
    "statement timeout": (("SET LOCAL statement_timeout = 20", "SELECT pg_sleep(5)"), "fault"),
    "syntax": (("SELECT FROM WHERE",), "fault"),
    "too long": (("SELECT repeat('x', 2000000000)",), "fault"),
    "no such table": (("SELECT 1 FROM nowhere",), "fault"),
    "raised": (("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$",), "contention"),
    "no connections": (("DO $$ BEGIN RAISE SQLSTATE '53300'; END $$",), "away"),
    "pooler": (("DO $$ BEGIN RAISE SQLSTATE '08P01'; END $$",), "away"),
}
SQLITE = {
    "read-only": (("PRAGMA query_only = on", INSERT.replace("now()", "'2026-01-01'")), "away"),
    "syntax": (("SELECT FROM WHERE",), "fault"),
    "no such table": (("SELECT 1 FROM nowhere",), "fault"),
}


def kind_of(error):
    kinds = {"away": db_errors.is_away(error), "contention": db_errors.is_contention(error)}
    assert db_errors.passes(error) == any(kinds.values())
    return next((kind for kind, holds in kinds.items() if holds), "fault")


def test_errors_are_judged_by_their_codes(database):
    cases = POSTGRES if database == "postgresql" else SQLITE
    judged = {}
    for name, (statements, _) in cases.items():
        judged[name] = kind_of(error_of(*statements))
        connection.close()
    assert judged == {name: kind for name, (_, kind) in cases.items()}


def test_a_statement_that_cannot_be_sent_is_at_fault(database):
    """psycopg raises the same class for it as for a server that is away."""
    if database == "postgresql":
        values = ", ".join(["%s"] * 70_000)
        with pytest.raises(Error) as raised:
            sql.run(f"SELECT 1 WHERE 1 IN ({values})", [1] * 70_000)
        assert kind_of(raised.value) == "fault"


def cut_own_connection():
    """Cut the connection of this thread in a transaction, and go on until that is noticed."""
    other = connection.copy()
    try:
        with transaction.atomic(), other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", sql.run("SELECT pg_backend_pid()")[0])
            while True:
                sql.run("SELECT 1")
    finally:
        other.close()


def test_a_connection_that_is_cut_in_a_transaction_is_away(database):
    """Django opens a new connection when the transaction ends, which works."""
    if database == "postgresql":
        with pytest.raises(Error) as raised:
            cut_own_connection()
        assert kind_of(raised.value) == "away"
        assert sql.run("SELECT 1")


def test_a_connection_that_is_out_of_step_is_away(database):
    """An answer is left from before, as when a pooler sends an error that nobody waits for."""
    if database == "postgresql":
        connection.ensure_connection()
        driver = connection.connection
        with pytest.raises(Error) as raised, connection.wrap_database_errors:
            driver.wait(driver._exec_command(b"SELECT 1; SELECT 2"))
        assert "received 2 results" in str(raised.value)
        assert kind_of(raised.value) == "away"
        assert not db_errors.passes(Error("Save with update_fields did not affect any rows."))


def test_a_locked_row_or_file_is_contention(database):
    Namespace.objects.create(name="locked")
    if database == "sqlite":
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
            other.execute("BEGIN IMMEDIATE")
            connection.close()
            connection.ensure_connection()
            connection.connection.execute("PRAGMA busy_timeout = 10")
            assert kind_of(error_of("SELECT 1")) == "contention"
        connection.close()
        return
    with transaction.atomic():
        Namespace.objects.select_for_update().get(name="locked")
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SET lock_timeout = '20ms'")
                with pytest.raises(Error) as raised:
                    cursor.execute("UPDATE statemanager_graphs_namespace SET name = 'y'")
        finally:
            other.close()
    assert kind_of(raised.value) == "contention"
    assert db_errors.is_lock_timeout(raised.value)


def test_the_engine_raises_djangos_errors_only(database):
    """Whatever a driver raises while rows are fetched goes through Django's wrapper."""
    failing = "SELECT abs(-9223372036854775807 - 1)" if database == "sqlite" else "SELECT 1 / 0"
    with pytest.raises(Error):
        sql.run(failing)


@pytest.mark.parametrize(("name", "status"), [("read-only", 503), ("syntax", 500)])
def test_requests_are_told_to_come_back_only_if_that_helps(database, name, status, monkeypatch):
    statements, _ = (POSTGRES if database == "postgresql" else SQLITE)[name]

    def fail(*args, **options):
        raise error_of(*statements)

    monkeypatch.setattr("django.contrib.auth.views.LoginView.get_context_data", fail)
    client = Client(raise_request_exception=False)
    answer = client.get("/admin/login/")
    assert answer.status_code == status
    assert answer.has_header("Retry-After") == (status == 503)
    assert (connection.connection is None) == (status == 503), "such a connection is dropped"
    connection.close()


def test_an_error_without_a_cause_is_a_lost_connection():
    assert db_errors.is_away(OperationalError("server closed the connection unexpectedly"))
    assert not db_errors.passes(ValueError("x"))
