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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0 0 1 mar-MAR *", "0 0 1 3 *"),
        ("0 0 1 3-03 *", "0 0 1 3 *"),
        ("0 0 1 mar-3 *", "0 0 1 3 *"),
        ("0 0 * * mon-MON", "0 0 * * 1"),
        ("0 0 * * mon-1,5-5", "0 0 * * 1,5"),
        ("0 0 * * 7-0", "0 0 * * 0"),
        ("0 0 * * sun-0", "0 0 * * 0"),
        ("0 0 * * 7-7", "0 0 * * 0"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("0 0 * * sun-7", "0 0 * * *"),
        ("0 5-05 * * *", "0 5 * * *"),
        ("05-5 * * * *", "5 * * * *"),
        ("0-0/15 * * * *", "0 * * * *"),
        ("0 0 * * fri-7", "0 0 * * 5,6,0"),
        ("10-12 0 * * *", "10,11,12 0 * * *"),
    ],
)
def test_a_range_of_one_value_is_that_value_however_it_is_written(written, meant):
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    cron.check(written, "UTC")
    assert next_times(written, "UTC", start, 5) == next_times(meant, "UTC", start, 5)


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 */2 * 1", ["05", "19", "09"]),  # Mondays with an odd day
        ("0 0 1-7 * */2", ["01", "03", "04"]),  # Tuesdays, Thursdays, weekends of the first week
        ("0 0 4 * 1", ["04", "05", "12"]),  # the fourth, and Mondays
        ("0 0 * * 1", ["05", "12", "19"]),
        ("0 0 31 * *", ["31", "31", "31"]),
    ],
)
def test_both_fields_of_a_day_must_fit_unless_both_are_restricted(expression, days):
    times = next_times(expression, "UTC", datetime(2025, 12, 31, 12, tzinfo=UTC), 3)
    assert [time[:2] for time in times] == days
