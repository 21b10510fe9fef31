"""Moments of schedules: hand-picked days, the hours that clocks skip and repeat, and an independent reading of cron."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.moment import millis, moment
from scoring.features.calendar import calendar
from scoring.workflows.schedule import ScheduleError, latest_moment, next_moment, parse_schedule

DAY = 86_400_000


def utc(text):
    return millis(datetime.fromisoformat(text).replace(tzinfo=UTC))


def following(cron, zone, after, count):
    moments = []
    for _ in range(count):
        after = next_moment(parse_schedule(cron), calendar(zone), after)
        moments.append(moment(after).strftime("%Y-%m-%d %H:%M"))
    return moments


def test_mondays_at_nine_in_berlin_before_and_after_the_change_to_summer_time():
    assert following("0 9 * * 1", "Europe/Berlin", utc("2026-03-20T00:00"), 3) == [
        "2026-03-23 08:00",
        "2026-03-30 07:00",
        "2026-04-06 07:00",
    ]


def test_an_hour_that_clocks_skip_comes_when_they_have_gone_forward():
    assert following("30 2 * * *", "Europe/Berlin", utc("2026-03-28T12:00"), 2) == [
        "2026-03-29 01:00",  # 3:00 there
        "2026-03-30 00:30",
    ]


def test_an_hour_that_clocks_repeat_comes_once():
    assert following("30 2 * * *", "Europe/Berlin", utc("2026-10-24T12:00"), 2) == [
        "2026-10-25 00:30",
        "2026-10-26 01:30",
    ]


def test_a_zone_of_half_an_hour_and_a_day_that_was_skipped():
    assert following("0 9 * * *", "Asia/Kolkata", utc("2026-01-01T00:00"), 1) == ["2026-01-01 03:30"]
    # Samoa had no December 30, 2011: its 9:00 comes at the first moment of the 31st.
    assert following("0 9 * * *", "Pacific/Apia", utc("2011-12-29T12:00"), 3) == [
        "2011-12-29 19:00",
        "2011-12-30 10:00",
        "2011-12-30 19:00",
    ]


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 0 1 * *", ["2026-02-01", "2026-03-01", "2026-04-01"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 * * mon-fri", ["2026-01-16", "2026-01-19", "2026-01-20"]),
        ("0 0 * * fri-sun", ["2026-01-16", "2026-01-17", "2026-01-18"]),
        ("0 0 13 * 5", ["2026-01-16", "2026-01-23", "2026-01-30"]),  # the 13th, or a Friday
        ("0 0 */15 * 7", ["2026-02-01", "2026-03-01", "2026-05-31"]),  # the 1st, 16th or 31st on a Sunday
        ("0 0 31 1,3 *", ["2026-01-31", "2026-03-31", "2027-01-31"]),
        ("0 0 10-20/5 jan *", ["2026-01-20", "2027-01-10", "2027-01-15"]),
    ],
)
def test_days_of_months_and_weeks(cron, days):
    assert following(cron, "UTC", utc("2026-01-15T12:00"), 3) == [f"{day} 00:00" for day in days]


@pytest.mark.parametrize(
    ("cron", "part"),
    [
        ("0 9 * *", "five fields"),
        (None, "five fields"),
        ("60 9 * * *", "the minute is 0 to 59"),
        ("0 9 0 * *", "the day of the month is 1 to 31"),
        ("0 9 * foo *", "the month is 1 to 12, or jan"),
        ("0 9 5-1 * *", "runs backwards"),
        ("0 9 * * */0", "steps by 0"),
        ("0 9 *-5 * *", "cannot be read"),
        ("0 9 ?! * *", "cannot be read"),
        ("0,30 9 * * *", "at most once an hour"),
        ("0 9 31 2,4 *", "never comes"),
    ],
)
def test_a_wrong_schedule_is_refused(cron, part):
    with pytest.raises(ScheduleError, match=part):
        parse_schedule(cron)


ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/St_Johns",
)


@given(
    st.sampled_from(ZONES),
    st.integers(0, 59),
    st.sampled_from(["*", "2", "0,12", "1-3", "*/6"]),
    st.sampled_from(["*", "1", "15-20"]),
    st.sampled_from(["*", "0", "1-5"]),
    st.integers(utc("2026-01-01T00:00"), utc("2027-01-01T00:00")),
)
def test_moments_are_those_of_a_clock_that_is_watched_minute_by_minute(
    zone, minute, hours, days, weekdays, after
):
    schedule = parse_schedule(f"{minute} {hours} {days} * {weekdays}")
    first = next_moment(schedule, calendar(zone), after)
    assume(first - after < 4 * DAY)
    local = ZoneInfo(zone)

    def shows(at):
        clock = at.astimezone(local)
        by_day = days == "*" or int(days.split("-")[0]) <= clock.day <= int(days.split("-")[-1])
        weekday = clock.isoweekday() % 7
        by_weekday = weekdays == "*" or int(weekdays.split("-")[0]) <= weekday <= int(weekdays.split("-")[-1])
        dated = by_day and by_weekday if "*" in (days, weekdays) else by_day or by_weekday
        hour = {"*": range(24), "2": [2], "0,12": [0, 12], "1-3": [1, 2, 3], "*/6": [0, 6, 12, 18]}[hours]
        return clock.minute == minute and clock.hour in hour and dated and clock.fold == 0

    at = datetime.fromtimestamp(after // 60_000 * 60, UTC) + timedelta(minutes=1)
    watched = next(
        (at + timedelta(minutes=n) for n in range(4 * 1_440) if shows(at + timedelta(minutes=n))), None
    )
    skipped = moment(first).astimezone(local)
    if watched is None or millis(watched) != first:  # only at the end of a skipped hour
        assert first < (millis(watched) if watched else first + 1)
        before = (moment(first) - timedelta(minutes=1)).astimezone(local)
        assert skipped.utcoffset() > before.utcoffset()
    assert latest_moment(schedule, calendar(zone), after, first) == first
    assert latest_moment(schedule, calendar(zone), after, first - 1) is None


def test_of_many_missed_moments_the_latest_counts():
    schedule = parse_schedule("0 9 * * *")
    assert latest_moment(schedule, calendar("UTC"), utc("2020-01-01T00:00"), utc("2026-01-05T08:59")) == utc(
        "2026-01-04T09:00"
    )
