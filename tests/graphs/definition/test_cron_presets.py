"""Schedules by kind and time, and in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.definition import cron
from graphs.definition.cron_presets import KINDS, MAX_DAY, MINUTES, Preset, in_words, preset_of

PRESETS = st.builds(
    Preset,
    st.sampled_from(list(KINDS)),
    minutes=st.sampled_from(MINUTES),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekday=st.integers(0, 6),
    day=st.integers(1, MAX_DAY),
)


@given(PRESETS)
def test_each_preset_is_a_schedule_that_is_read_back(preset):
    cron.check(preset.expression, "UTC")
    again = preset_of(preset.expression)
    assert (again.every, again.expression, again.words) == (
        preset.every, preset.expression, preset.words,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("7 * * * *", "every hour at :07"),
        ("0 6 * * *", "every day at 06:00"),
        ("30 18 * * 1-5", "Monday to Friday at 18:30"),
        ("0 6 * * 0", "every Sunday at 06:00"),
        ("0 6  1 * *", "every month on day 1 at 06:00"),
        ("*/7 * * * *", ""),
        ("0 6 31 * *", ""),
        ("60 6 * * *", ""),
        ("0 6 * * 7", ""),
        ("0 6 * * mon", ""),
        ("0 6 1 * 1", ""),
        ("٠ 6 * * *", ""),
        ("", ""),
    ],
)
def test_a_schedule_in_words(expression, words):
    assert in_words(expression) == words
