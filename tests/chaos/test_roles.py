"""Settings of the database role under which statements fail that would succeed otherwise."""

import pytest

from tests.chaos.site import site
from tests.support.clusters import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.only_on("postgresql"),
]

# {settings: those that doctor names}. The engine sets its own lock_timeout.
ROLES = {
    "default_transaction_isolation = serializable": "default_transaction_isolation",
    "default_transaction_isolation = 'repeatable read'": "default_transaction_isolation",
    "statement_timeout = '1s'": "statement_timeout",
    "idle_in_transaction_session_timeout = '300ms'": "idle_in_transaction_session_timeout",
    "lock_timeout = '100ms'": "",
}


def test_work_ends_rightly_whatever_the_role_sets(tmp_path):
    """Transactions fail and are repeated. Every state succeeds once, and doctor says the cause."""
    with site(tmp_path) as opened:
        for setting, name in ROLES.items():
            opened.server.execute("ALTER ROLE statemanager RESET ALL")
            opened.server.execute(f"ALTER ROLE statemanager SET {setting}")
            opened.read(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = 'statemanager'"
            )
            opened.start(4)
            until(lambda: not opened.unfinished(), 90, 0.2)
            assert name in opened.run_command("doctor").stdout
        opened.assert_all_completed_once()
        assert opened.installation.ended == []
