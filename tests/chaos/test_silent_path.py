"""The path to PostgreSQL falls silent: what is sent is taken, and no answer comes."""

import signal
from time import monotonic, sleep

import pytest

from tests import postgres
from tests.chaos.figures import NOISE_SECONDS
from tests.chaos.installation import SUPERVISORS
from tests.chaos.site import site
from tests.support.clusters import until
from tests.support.silent_path import path_to

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.only_on("postgresql"),
]
BACK_SECONDS = 30
STOP_SECONDS = 15


def test_a_path_that_falls_silent(tmp_path, record_property):
    """New connections work after 10 s, those from before never again. Everything comes back."""
    server = postgres.Server(quick=False)
    with path_to(server.port) as path:
        env = {"DATABASE_URL": server.url.replace(f":{server.port}/", f":{path.port}/")}
        with site(tmp_path, env, server) as opened:
            opened.start(12)
            path.fall_silent()
            sleep(10)
            path.resume()
            resumed_at = monotonic()
            opened.start(1)
            until(lambda: not opened.unfinished(), 90, 0.2)
            waited = monotonic() - resumed_at
            opened.assert_all_completed_once()
            path.fall_silent()
            stopped_at = monotonic()
            for name in SUPERVISORS:
                opened.installation.parts[name].send_signal(signal.SIGTERM)
            for name in SUPERVISORS:
                opened.installation.parts[name].wait(60)
            stopping = monotonic() - stopped_at
            path.resume()
    record_property(
        "report",
        f"after a silent path, all runs were over {waited:.0f} s later; supervisors that were told "
        f"to stop meanwhile took {stopping:.0f} s",
    )
    assert waited <= BACK_SECONDS + NOISE_SECONDS
    assert stopping <= STOP_SECONDS + NOISE_SECONDS
