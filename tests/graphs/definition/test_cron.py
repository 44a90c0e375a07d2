"""Cron expressions, which follow the wall clock of a time zone."""

from datetime import UTC, datetime, timedelta

import pytest

from graphs.definition import cron

BERLIN = "Europe/Berlin"


def next_times(expression, zone, start, count):
    """The next due times after `start`, as day and time in UTC."""
    times = []
    at = start
    for _ in range(count):
        at = cron.next_time(expression, zone, at)
        times.append(at.strftime("%d %H:%M"))
    return times


def test_times_are_local_times_of_the_zone():
    assert next_times(
        "0 9 * * 1-5", "America/New_York", datetime(2026, 7, 3, 20, tzinfo=UTC), 2
    ) == [
        "06 13:00",
        "07 13:00",
    ]


def test_a_time_in_the_skipped_hour_is_due_right_after_it():
    assert next_times("30 2 * * *", BERLIN, datetime(2026, 3, 28, tzinfo=UTC), 3) == [
        "28 01:30",
        "29 01:00",
        "30 00:30",
    ]


def test_a_time_in_the_repeated_hour_is_due_once_unless_the_hour_is_a_wildcard():
    assert next_times("30 2 * * *", BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "25 00:30",
        "26 01:30",
    ]
    assert next_times("30 * * * *", BERLIN, datetime(2026, 10, 25, 0, tzinfo=UTC), 3) == [
        "25 00:30",
        "25 01:30",
        "25 02:30",
    ]


def test_missed_times_are_counted_and_not_made_up_for():
    due = datetime(2026, 1, 1, tzinfo=UTC)
    assert cron.passed("*/10 * * * *", "UTC", due, due + timedelta(minutes=35)) == (
        3,
        due + timedelta(minutes=40),
    )
    missed, following = cron.passed("* * * * *", "UTC", due, due + timedelta(days=365, seconds=30))
    assert (missed, following) == (1000, due + timedelta(days=365, minutes=1))


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "a b c d e",
        "@daily",
        "H * * * *",
        "R * * * *",
        "0 0 30 2 *",
        "*/0 * * * *",
        "1-" * 5000,
    ],
)
def test_an_invalid_expression_is_refused(expression):
    with pytest.raises(ValueError, match="not a valid cron expression"):
        cron.check(expression, "UTC")


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ValueError, match="is not a time zone"):
        cron.check("* * * * *", "Mars/Olympus")
