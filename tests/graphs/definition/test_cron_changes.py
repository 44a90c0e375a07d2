"""Due times around the changes of clocks, compared with a clock that is read every minute."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from graphs.definition import cron

MINUTE = timedelta(minutes=1)
AROUND = timedelta(minutes=150)
BEGINS, ENDS = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
ZONES = [
    "Africa/Cairo",  # at midnight
    "Africa/Casablanca",  # for Ramadan
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/St_Johns",
    "Antarctica/Troll",  # two hours
    "Asia/Beirut",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # half an hour
    "Europe/Berlin",
    "Europe/Dublin",  # summer is its standard time
    "Pacific/Chatham",
    "Pacific/Easter",
]
Match = Callable[[datetime], bool]
EXPRESSIONS: dict[str, Match] = {
    "* * * * *": lambda at: True,
    "*/20 * * * *": lambda at: at.minute % 20 == 0,
    "0 * * * *": lambda at: at.minute == 0,
    "15 * * * *": lambda at: at.minute == 15,
    "45 */2 * * *": lambda at: at.minute == 45 and at.hour % 2 == 0,
    "0 0 * * *": lambda at: (at.hour, at.minute) == (0, 0),
    "30 0 * * *": lambda at: (at.hour, at.minute) == (0, 30),
    "45 1 * * *": lambda at: (at.hour, at.minute) == (1, 45),
    "0 2 * * *": lambda at: (at.hour, at.minute) == (2, 0),
    "15 2 * * *": lambda at: (at.hour, at.minute) == (2, 15),
    "10,20,50 1-3 * * *": lambda at: at.minute in (10, 20, 50) and 1 <= at.hour <= 3,
    "30 3 * * 0": lambda at: (at.hour, at.minute, at.isoweekday()) == (3, 30, 7),
}


def changes(clock):
    """The moments from BEGINS to ENDS at which the clock is changed."""
    step = timedelta(hours=12)
    at = BEGINS
    while at < ENDS:
        if at.astimezone(clock).utcoffset() != (at + step).astimezone(clock).utcoffset():
            moment = at
            while moment.astimezone(clock).utcoffset() == at.astimezone(clock).utcoffset():
                moment += MINUTE
            yield moment
        at += step


def minutes(clock, change):
    """Each minute around a change, the times of the clock that are due then, and whether it shows
    them again. Minutes that it leaves out are due when it goes on.
    """
    after = change.astimezone(clock)
    left_out = after.utcoffset() - (change - MINUTE).astimezone(clock).utcoffset()
    at = change - AROUND
    while at < change + AROUND:
        shown = at.astimezone(clock).replace(tzinfo=None)
        names = [shown]
        if at == change:
            names += [shown - count * MINUTE for count in range(1, left_out // MINUTE + 1)]
        yield at, names, at.astimezone(clock).fold
        at += MINUTE


@pytest.mark.parametrize("zone", ZONES)
def test_each_time_is_due_once_however_clocks_are_changed(zone):
    clock = ZoneInfo(zone)
    moments = list(changes(clock))
    assert len(moments) >= 2
    for change in moments:
        shown = list(minutes(clock, change))
        for expression, match in EXPRESSIONS.items():
            every_hour = expression.split()[1].startswith("*")
            expected = [
                at
                for at, names, again in shown
                if any(map(match, names)) and (every_hour or not again)
            ]
            got = []
            at = cron.next_time(expression, zone, change - AROUND - MINUTE)
            while at < change + AROUND:
                got.append(at)
                at = cron.next_time(expression, zone, at)
            assert got == expected, (zone, change, expression)


def test_half_an_hour_that_lord_howe_leaves_out_is_due_once():
    zone = "Australia/Lord_Howe"  # on 4 October 2026, 2:00 is followed by 2:30
    start = datetime(2026, 10, 3, 12, tzinfo=UTC)
    first = cron.next_time("15 2 * * *", zone, start)
    assert first == datetime(2026, 10, 3, 15, 30, tzinfo=UTC)
    assert cron.next_time("15 2 * * *", zone, first) == datetime(2026, 10, 4, 15, 15, tzinfo=UTC)


def test_seconds_of_a_moment_do_not_matter():
    for seconds in (0, 0.5, 30, 59.999999):
        after = datetime(2026, 10, 3, 15, 29, tzinfo=UTC) + timedelta(seconds=seconds)
        due = cron.next_time("15 2 * * *", "Australia/Lord_Howe", after)
        assert due == datetime(2026, 10, 3, 15, 30, tzinfo=UTC)
