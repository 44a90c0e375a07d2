"""The page Run States, and the picture of a run."""

import re

import pytest
from django.urls import reverse

from graphs.auth.callers import SYSTEM
from runs.core import statuses
from runs.engine import control
from runs.engine.start import start_run
from runs.models import Run
from runs.queries import diagram
from tests.support.pages import HX, text

pytestmark = pytest.mark.django_db


def test_the_first_page_shows_runs_that_start_although_none_was_active(admin_client, publish):
    page = text(admin_client.get(reverse("run_states")))
    poll = re.search(r'id="rm-cards"[^>]*hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    url = f"{reverse('run_states')}{poll}" if poll.startswith("?") else poll
    assert admin_client.get(url, headers=HX).status_code == 304
    run = start_run(publish("a"))
    assert run.run_id in text(admin_client.get(url, headers=HX))


def test_the_picture_shows_nothing_running_while_the_run_is_queued_or_paused(publish):
    run = start_run(publish("a"))
    assert [state for _, state, _ in diagram.marks(run)] == ["waiting"]
    Run.objects.filter(pk=run.pk).update(status=statuses.RUNNING)
    run.refresh_from_db()
    assert [state for _, state, _ in diagram.marks(run)] == ["running"]
    control.pause_run(run, SYSTEM)
    assert [state for _, state, _ in diagram.marks(run)] == ["waiting"]
