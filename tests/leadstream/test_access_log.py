"""Reading a web server's access log: which lines are page views, and what each says."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.door.admission import admit_import
from leadstream.operations.access_log import (
    ASSET,
    MALFORMED,
    NOT_A_SUCCESS,
    NOT_A_VISIT,
    REDIRECTED,
    TOO_LONG,
    LogLine,
    read_access_log,
)
from leadstream.operations.imports import import_access_log
from schemas.decode import encode_source, read_event
from schemas.envelope import Campaign, Event

REAL_LOG = Path(__file__).parents[2] / "../shared/data/access-log/access.log"
needs_real_log = pytest.mark.skipif(not REAL_LOG.exists(), reason=f"{REAL_LOG} is not there")

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"


def line(
    request: str = "GET /pricing HTTP/1.1",
    *,
    ip: str = "203.0.113.9",
    at: str = "17/May/2015:10:05:03 +0000",
    status: int = 200,
    referrer: str = "-",
    agent: str = FIREFOX,
) -> bytes:
    return f'{ip} - - [{at}] "{request}" {status} 512 "{referrer}" "{agent}"\n'.encode()


def read(*lines: bytes) -> list[LogLine]:
    return list(read_access_log(lines, tenant="default"))


def event(raw: bytes) -> Event:
    [only] = read(raw)
    assert only.event is not None
    return only.event


def test_a_page_view_says_when_where_from_and_by_whom():
    seen = event(line(at="17/May/2015:12:05:03 +0200", referrer="https://www.google.com/"))
    assert seen.occurred_at == seen.recorded_at == datetime(2015, 5, 17, 10, 5, 3, tzinfo=UTC)
    assert seen.imported
    assert seen.source == "web"
    assert seen.context is not None
    assert (seen.context.ip, seen.context.user_agent) == ("203.0.113.9", FIREFOX)
    assert (seen.context.url, seen.context.referrer) == ("/pricing", "https://www.google.com/")


def test_a_visitor_is_an_address_and_a_browser_together():
    here = event(line()).visitor_id
    assert event(line("GET /other HTTP/1.1")).visitor_id == here
    assert event(line(ip="203.0.113.10")).visitor_id != here
    assert event(line(agent="Mozilla/5.0 (other)")).visitor_id != here


def test_who_sends_no_user_agent_is_no_browser():
    assert event(line(agent="-")).bot == "no user agent"
    assert event(line()).bot is None


def test_campaign_parameters_are_read_from_the_address():
    request = "GET /?utm_source=letter&utm_medium=email&utm_campaign=May+sale&x=1 HTTP/1.1"
    seen = admit_import(event(line(request)), datetime.now(UTC))
    assert seen.context is not None
    assert seen.context.campaign == Campaign(source="letter", medium="email", name="May sale")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (line("GET /style.css?v=3 HTTP/1.1"), ASSET),
        (line("GET /favicon.ico HTTP/1.1"), ASSET),
        (line("GET /Photo.JPG HTTP/1.1"), ASSET),
        (line("POST /form HTTP/1.1"), NOT_A_VISIT),
        (line("HEAD / HTTP/1.1"), NOT_A_VISIT),
        (line("-", status=408), NOT_A_VISIT),
        (line(status=404), NOT_A_SUCCESS),
        (line(status=500), NOT_A_SUCCESS),
        (line(status=301), REDIRECTED),
        (line("GET /" + "x" * 2048 + " HTTP/1.1"), TOO_LONG),
        (b"not a log line\n", MALFORMED),
        (line()[:-20], MALFORMED),
        (line(at="32/May/2015:10:05:03 +0000"), MALFORMED),
        (line(at="17/Mai/2015:10:05:03 +0000"), MALFORMED),
        (b"\xff\xfe\x00\n", MALFORMED),
    ],
)
def test_what_is_no_page_view_says_why(raw: bytes, reason: str):
    assert read(line(), raw)[1] == LogLine(2, None, reason)


@pytest.mark.parametrize("status", [200, 206, 304])
def test_a_page_out_of_the_browser_s_cache_was_seen_too(status: int):
    assert event(line(status=status)).visitor_id


def test_reading_a_log_again_gives_the_same_ids():
    lines = [line(), line("GET /a HTTP/1.1"), line()]
    assert [each.event for each in read(*lines)] == [each.event for each in read(*lines)]


def test_identical_lines_are_different_page_views():
    ids = {each.event.event_id for each in read(line(), line(), line()) if each.event}
    assert len(ids) == 3


def test_identical_lines_are_told_apart_across_midnight_and_disorder():
    """The count survives lines of the neighbouring day in between."""
    before, after = line(at="17/May/2015:23:59:59 +0000"), line(at="18/May/2015:00:00:00 +0000")
    ids = [each.event.event_id for each in read(before, after, before, after, before) if each.event]
    assert len(set(ids)) == 5


def test_the_order_of_the_file_is_kept():
    late, early = line(at="17/May/2015:10:05:43 +0000"), line(at="17/May/2015:10:05:03 +0000")
    seconds = [each.event.occurred_at.second for each in read(late, early) if each.event]
    assert seconds == [43, 3]


def test_empty_lines_are_nothing_and_numbers_are_those_of_the_file():
    assert [each.number for each in read(b"\n", line(), b"   \n", line())] == [2, 4]


def test_quotes_and_odd_bytes_in_a_user_agent_are_kept():
    raw = line(agent='a \\"b\\" c').replace(b"a ", b"a\xff ")
    seen = event(raw)
    assert seen.context is not None
    assert seen.context.user_agent == 'a\\xff \\"b\\" c'


@needs_real_log
def test_real_log_page_views_are_those_an_independent_count_finds():
    """Counted by splitting at quotes, with no regular expression shared."""
    expected = 0
    begun: dict[tuple[str, str, str], datetime] = {}
    for raw in REAL_LOG.read_text(encoding="utf-8").splitlines():
        parts = raw.split('"')
        if len(parts) < 7:
            continue
        method, path = parts[1].split()[:2]
        status = parts[2].split()[0]
        asset = re.search(
            r"\.(css|js|json|png|jpe?g|gif|svg|ico|ttf|woff|swf|xml|xsl|txt)$",
            path.split("?")[0],
            re.IGNORECASE,
        )
        if method != "GET" or status not in {"200", "206", "304"} or asset:
            continue
        address, agent = parts[0].split()[0], parts[5]
        at = datetime.strptime(parts[0].split("[")[1].strip("] "), "%d/%b/%Y:%H:%M:%S %z")
        last = begun.get((address, agent, path))
        if status != "304":
            begun[address, agent, path] = at
        further_piece = status == "206" and last is not None and abs(at - last) <= timedelta(minutes=30)
        expected += not further_piece
    with REAL_LOG.open("rb") as file:
        found = list(read_access_log(file, tenant="default"))
    assert len(found) == 10_000
    assert sum(each.event is not None for each in found) == expected > 3_000
    assert [each.number for each in found if each.reason == MALFORMED] == [8899]


@needs_real_log
def test_real_log_crawlers_are_flagged_and_browsers_are_not():
    with REAL_LOG.open("rb") as file:
        admitted = [
            admit_import(read_event(encode_source(each.event)), datetime.now(UTC))
            for each in read_access_log(file, tenant="default")
            if each.event
        ]
    bots = Counter(each.bot for each in admitted if each.bot)
    agents = {each.context.user_agent: each.bot for each in admitted if each.context}
    googlebot = [bot for agent, bot in agents.items() if agent and "Googlebot/2.1" in agent]
    firefox = [bot for agent, bot in agents.items() if agent and re.search(r"Firefox/\d+\.0$", agent)]
    assert googlebot
    assert all(googlebot)
    assert len(firefox) > 20
    assert not any(firefox)
    assert 0.3 < bots.total() / len(admitted) < 0.7


SOUP = st.lists(
    st.sampled_from(
        ["//[", "?utm_source=", "%ff", "%00", "http://", "::1", "a.css", '\\"', "Googlebot", "\x1b[2J"]
    )
    | st.text("/[]?&%@:;#\\ \x00\u202e℀²İ")
    | st.text(max_size=3),
    max_size=8,
).map("".join)
TIMES = ["17/May/2015:10:05:03 +0000", "17/May/0001:00:05:03 +1400", "31/Feb/2015:10:05:03 +9999"]


SOUND = b'203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "Mozilla/5.0"'


@given(
    SOUP,
    SOUP,
    SOUP,
    SOUP,
    st.sampled_from([*TIMES, "17/May/9999:23:59:59 -2359"]) | SOUP,
    st.binary(max_size=30),
)
@example("203.0.113.9", "//[x?utm_source=a", "-", "x", TIMES[0], b"")
@example("203.0.113.9", "http://[::1?utm_source=a", "-", "x", TIMES[0], b"")
@example("203.0.113.9", "//\u2100/?utm_medium=b", "-", "x", TIMES[0], b"")
def test_no_line_of_strangers_ends_an_import(ip, path, referrer, agent, at, junk):
    """Each line is a page view or has a reason; the sound one after them is taken."""
    hostile = f'{ip} - - [{at}] "GET {path} HTTP/1.1" 200 5 "{referrer}" "{agent}"'.encode()
    taken = []
    lines = [hostile.replace(b"\n", b""), junk.replace(b"\n", b""), SOUND]
    tally = import_access_log(lines, taken.extend, datetime(2026, 6, 30, tzinfo=UTC), tenant="default")
    assert tally.lines == tally.taken + tally.skipped.total() == len([line for line in lines if line.strip()])
    assert len(taken) == tally.taken >= 1


@pytest.mark.parametrize("path", ["//[x?utm_source=a", "//[x", "http://[::1/", "//\u2100/?utm_source=a"])
def test_what_is_no_address_is_malformed(path):
    line = f'203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET {path} HTTP/1.1" 200 5 "-" "x"'.encode()
    [_, found] = read_access_log([SOUND, line], tenant="default")
    assert (found.event, found.reason) == (None, MALFORMED)
