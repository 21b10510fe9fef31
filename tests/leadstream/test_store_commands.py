"""Commands on a stopped store: imports, dead letters, skipping, publishing, rebuilding, the doctor."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import psycopg
import pytest
from command_line import leadstream, leadstream_here

from gateway.door.crawlers import crawler_of
from leadstream.embedded_postgres import create_database
from leadstream.operations.access_log import visitor_id_of
from leadstream.operations.open_store import open_store
from leadstream.settings import read_settings
from schemas.record import Outgoing
from schemas.topics import EVENTS

pytestmark = pytest.mark.postgres

REAL_LOG = Path(__file__).parents[2] / "../shared/data/access-log/access.log"


@pytest.fixture
def store(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LEADSTREAM_DATABASE_URL", database_url)
    monkeypatch.setenv("LEADSTREAM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LEADSTREAM_PARTITIONS", "4")
    return database_url


def command(*arguments: object, store: str, code: int = 0) -> str:
    """What it writes to standard output."""
    done = leadstream_here(*arguments, LEADSTREAM_DATABASE_URL=store)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stdout.decode() if code == 0 else done.stderr.decode()


def dead_letter_in(store: str) -> str:
    """A record that nobody can read; returns its place as it is listed."""
    with open_store(read_settings()) as reached:
        reached.append([Outgoing(EVENTS, "default/v/x", b"not an event", 1)])
        reached.settle(lambda _: None)
    [line] = command("dead-letters", "list", store=store).splitlines()
    found = re.match(r"(events 1 \d+)  ", line)
    assert found, line
    return found[1]


def test_a_dead_letter_is_listed_shown_mended_and_sent_in_again(store: str, tmp_path: Path):
    place = dead_letter_in(store).split()
    assert command("dead-letters", "show", *place, store=store) == "not an event"
    assert "still cannot be read" in command("dead-letters", "retry", *place, store=store, code=1)
    mended = tmp_path / "mended.json"
    said = {
        "type": "qr_scanned",
        "event_id": "e",
        "occurred_at": "2026-06-01T00:00:00Z",
        "lead_id": "ada",
        "source": "web",
    }
    mended.write_text(json.dumps(said), encoding="utf-8")
    assert "1 sent again" in command("dead-letters", "retry", *place, "--mended", mended, store=store)
    assert command("dead-letters", "list", store=store) == ""
    assert "(retried)" in command("dead-letters", "list", "--all", store=store)
    with psycopg.connect(store, options="-c search_path=live") as connection:
        [counts] = connection.execute("select counts from leads where lead_id = 'ada'").fetchone()
    assert counts["qr_scanned"] == 1


def test_a_dead_letter_that_is_none_is_named(store: str):
    dead_letter_in(store)
    assert "no dead letter events 0 999" in command(
        "dead-letters", "show", "events", 0, 999, store=store, code=1
    )


def test_a_record_that_was_folded_cannot_be_skipped(store: str):
    dead_letter_in(store)
    said = command("skip", "events", 0, 0, "--reason", "why not", store=store, code=1)
    assert "was folded already" in said


def test_publishing_counts_versions_and_the_doctor_accepts_a_model_of_ones_own(store: str, tmp_path: Path):
    dead_letter_in(store)
    model = tmp_path / "changed.toml"
    shipped = (Path(__file__).parents[2] / "scoring/models/temperature.toml").read_text(encoding="utf-8")
    model.write_text(f"{shipped}\n# mine\n", encoding="utf-8")
    assert "Model temperature, version 2, is active." in command("publish", model, store=store)
    assert "ok   Model temperature: version 2" in command("doctor", store=store)
    assert "Model temperature, version 3, is active." in command("publish", "temperature", store=store)
    assert "ok   Model temperature: version 3" in command("doctor", store=store)


def test_publishing_tells_who_moved(store: str, tmp_path: Path):
    events = tmp_path / "events.ndjson"
    events.write_text(
        "".join(
            json.dumps(
                {
                    "type": "qr_scanned",
                    "event_id": f"{lead}-{number}",
                    "occurred_at": "2026-01-01T00:00:00Z",
                }
                | ({"visitor_id": "stranger"} if lead == "stranger" else {"lead_id": lead})
            )
            + "\n"
            for lead, scans in (("ada", 2), ("berta", 1), ("stranger", 3))
            for number in range(scans)
        ),
        encoding="utf-8",
    )
    command("import", "events", events, store=store)
    model = tmp_path / "changed.toml"
    shipped = (Path(__file__).parents[2] / "scoring/models/temperature.toml").read_text(encoding="utf-8")
    assert "points = 3, max = 15" in shipped
    model.write_text(shipped.replace("points = 3, max = 15", "points = 4, max = 15"), encoding="utf-8")
    told = command("publish", model, store=store).splitlines()
    assert told[1:] == [
        "Leads that rose: 2",
        "Leads that fell: 0",
        "Anonymous visitors that rose or fell: 1",
        "  ada: 6 to 8",
        "  berta: 3 to 4",
    ]


def test_a_mistyped_directory_is_no_new_store(tmp_path: Path):
    for asked in (["rebuild"], ["dead-letters", "list"], ["skip", "events", "0", "0", "--reason", "x"]):
        done = leadstream_here(*asked, "--data-dir", tmp_path / "mistyped")
        assert done.returncode == 1
        assert b"There is no store in" in done.stderr
    assert not (tmp_path / "mistyped").exists()


def test_a_tenant_s_own_model_has_versions_of_its_own(store: str):
    assert "version 2," in command("publish", "rules", "--tenant", "acme", store=store)
    assert "version 2, is unchanged" in command("publish", "rules", "--tenant", "acme", store=store)
    assert "version 2," in command("publish", "rules", store=store)


def test_settings_are_published_whole_and_keep_what_is_not_given(store: str):
    command("simulate", "--leads", 3, "--days", 5, "--into", store=store)
    said = command("publish-settings", "--time-zone", "Asia/Kolkata", store=store)
    assert "version 2," in said
    assert "midnight in Asia/Kolkata" in said
    assert "30 idle minutes" in said
    again = command("publish-settings", "--idle-minutes", 45, store=store)
    assert "version 3," in again
    assert "Asia/Kolkata" in again
    refused = leadstream_here(
        "publish-settings", "--time-zone", "Mars/Olympus", LEADSTREAM_DATABASE_URL=store
    )
    assert refused.returncode == 1
    assert b"Mars/Olympus" in refused.stderr
    assert b"Traceback" not in refused.stderr


def test_a_text_of_attribution_is_published_from_a_file_and_kept(store: str, tmp_path: Path):
    text = tmp_path / "attribution.toml"
    text.write_text(
        'attribution = "ours"\nlookback_days = 30\nhalf_life_days = 3\ntouchpoints = ["form_submitted"]\n'
    )
    published = command("publish-settings", "--attribution", text, store=store)
    assert "Credit for conversions follows ours." in published
    assert "follows ours" in command("publish-settings", "--idle-minutes", 45, store=store)
    text.write_text(text.read_text().replace("lookback_days = 30", "lookback_days = 0"))
    refused = command("publish-settings", "--attribution", text, store=store, code=1)
    assert "line 2, lookback_days: wants 1 to 3,650 days: not 0" in " ".join(refused.split())
    missing = command("publish-settings", "--attribution", tmp_path / "no.toml", store=store, code=1)
    assert "pass a .toml file, or default for the built-in text" in " ".join(missing.split())
    assert "Credit" not in command("publish-settings", "--attribution", "default", store=store)


def test_types_of_profile_fields_are_published_from_a_file_and_kept(store: str, tmp_path: Path):
    declared = tmp_path / "fields.toml"
    declared.write_text('[profile_fields]\nseats = "number"\nnewsletter = "flag"\n')
    published = command("publish-settings", "--profile-fields", declared, store=store)
    assert "seats (number), newsletter (flag)" in published
    assert "seats (number)" in command("publish-settings", "--idle-minutes", 45, store=store)
    events = tmp_path / "events.ndjson"
    updates = [
        {"seats": 5, "newsletter": "on", "phone": "+971501234599"},
        {"seats": 0, "newsletter": "off", "phone": "N/A", "topic": 0},
    ]
    events.write_text(
        "\n".join(
            json.dumps(
                {
                    "type": "profile_updated",
                    "lead_id": "ada",
                    "event_id": str(day),
                    "occurred_at": f"2025-03-0{day}T08:00:00Z",
                    "fields": fields,
                }
            )
            for day, fields in enumerate(updates, 1)
        )
    )
    command("import", "events", events, store=store)
    with psycopg.connect(store) as connection:
        [(fields,)] = connection.execute("select fields from live.leads").fetchall()
    assert fields == {"seats": 0, "newsletter": False, "phone": "+971501234599"}

    declared.write_text('[profile_fields]\nseats = "nubmer"\n')
    refused = command("publish-settings", "--profile-fields", declared, store=store, code=1)
    assert "line 2, seats: 'nubmer' is no type; types are text, number, flag" in " ".join(refused.split())
    missing = command("publish-settings", "--profile-fields", tmp_path / "no.toml", store=store, code=1)
    assert "does not exist: pass a .toml file with the table [profile_fields]" in " ".join(missing.split())
    declared.write_text("[profile_fields]\n")
    assert "seats" not in command("publish-settings", "--profile-fields", declared, store=store)


def test_another_number_of_partitions_is_refused_with_the_number_to_set(
    store: str, monkeypatch: pytest.MonkeyPatch
):
    dead_letter_in(store)
    monkeypatch.setenv("LEADSTREAM_PARTITIONS", "8")
    done = leadstream_here(
        "simulate", "--leads", 1, "--into", LEADSTREAM_DATABASE_URL=store, LEADSTREAM_PARTITIONS="8"
    )
    assert done.returncode == 1
    assert b"LEADSTREAM_PARTITIONS=4" in done.stderr
    done = leadstream_here("doctor", LEADSTREAM_DATABASE_URL=store, LEADSTREAM_PARTITIONS="8")
    assert b"Set LEADSTREAM_PARTITIONS=4" in done.stdout


def test_a_simulated_company_is_scored_and_a_rebuild_gives_the_same_leads(store: str):
    command("simulate", "--leads", 15, "--days", 20, "--into", store=store)
    before = rows(store)
    assert len(before) > 10
    assert "rebuilt" in command("rebuild", store=store)
    assert rows(store) == before


def rows(store: str) -> list[tuple[object, ...]]:
    with psycopg.connect(store, options="-c search_path=live") as connection:
        return connection.execute(
            """select l.lead_id, l.stage, s.model, s.total, s.bands from leads l join lead_scores s using (lead_key)
               order by 1, 3"""
        ).fetchall()


def test_a_rebuild_names_what_it_would_lose_and_takes_only_the_names_of_tables(store: str):
    events = "".join(
        f'{{"type":"qr_scanned","lead_id":"l{n}","event_id":"e{n}","occurred_at":"2026-03-01T09:00:00Z"}}\n'
        for n in range(9)
    )
    done = leadstream("import", "events", "-", stdin=events.encode(), LEADSTREAM_DATABASE_URL=store)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(store) as connection:
        kept = "select count(*) from live.score_history"
        (before,) = connection.execute(kept).fetchone()
        connection.execute("delete from public.records where topic = 'score-changed'")
        connection.commit()
        assert "score_history: their older rows were kept" in leadstream_here(
            "rebuild", LEADSTREAM_DATABASE_URL=store
        ).stderr.decode().replace("\n", " ")
        assert connection.execute(kept).fetchone() == (before,)
        moved = connection.execute(
            """update public.positions set position = position - 2 where topic = 'score-changed'
               and position > 2 and generation = 'live'"""
        ).rowcount
        connection.commit()
        assert moved
        told = command("rebuild", store=store, code=1)
        assert f"score_history (up to {2 * moved} rows)" in told.replace("\n", " ")
        assert "is no table" in leadstream_here(
            "rebuild", "--accept-loss", "everything", LEADSTREAM_DATABASE_URL=store
        ).stderr.decode().replace("\n", " ")
        command("rebuild", "--accept-loss", "score_history", store=store)


def test_rebuilding_where_nothing_is_says_so(store: str):
    assert "nothing to rebuild from" in command("rebuild", store=store, code=1)


def test_an_import_where_nothing_can_be_taken_fails(store: str, tmp_path: Path):
    (tmp_path / "junk").write_text("junk\njunk\n", encoding="utf-8")
    said = command("import", "access-log", tmp_path / "junk", store=store, code=1)
    assert (
        "The format of the log is not supported. Its first line is: junk. Supported formats: common" in said
    )
    assert "Traceback" not in said


def test_an_import_where_no_line_can_be_taken_fails(store: str, tmp_path: Path):
    icon = '203.0.113.7 - - [20/Nov/2015:10:00:00 +0000] "GET /a.ico HTTP/1.1" 200 512 "-" "Mozilla/5.0"\n'
    (tmp_path / "log").write_text(icon + "junk\n", encoding="utf-8")
    said = command("import", "access-log", tmp_path / "log", store=store, code=1)
    assert "line 2: no request in a supported log format" in said
    assert "could be imported" in said


@pytest.mark.slow
@pytest.mark.skipif(not REAL_LOG.exists(), reason=f"{REAL_LOG} is not there")
def test_real_log_every_visitor_has_the_score_that_the_formula_gives(store: str, tmp_path: Path):
    """Against a count of our own, from the lines. The log is moved to last week; imported twice, it counts once."""
    lines = list(moved_to_last_week(REAL_LOG.read_text(encoding="utf-8").splitlines()))
    recent = tmp_path / "recent.log"
    recent.write_text("\n".join(lines), encoding="utf-8")
    expected = {visitor: score(times) for visitor, times in visits(lines).items()}
    assert len(expected) > 900
    for new_leads in (len(expected), 0):
        told = command("import", "access-log", recent, store=store)
        assert "Lines: 10,000" in told
        assert re.search(r"^  Googlebot: 4\d\d$", told, re.MULTILINE)
        assert f"New leads: {new_leads}\n" in told
        low = sum(total < 20 for total in expected.values())
        assert f"web_session 0 to 19: {low}\n" in told
    with psycopg.connect(store, options="-c search_path=live") as connection:
        found = connection.execute(
            "select lead_id, rounded from leads join lead_scores using (lead_key) where model = 'web_session'"
        ).fetchall()
    assert dict(found) == {f"anon:{visitor_id_of(*visitor)}": total for visitor, total in expected.items()}


def moved_to_last_week(lines: Iterable[str]) -> Iterable[str]:
    """The same lines, as if the log had ended two days ago."""
    delta = datetime.now(UTC).date() - timedelta(days=2) - datetime(2015, 5, 20, tzinfo=UTC).date()

    def moved(found: re.Match[str]) -> str:
        return (datetime.strptime(found[1], "%d/%b/%Y").replace(tzinfo=UTC) + delta).strftime("[%d/%b/%Y:")

    return (re.sub(r"\[(\d\d/\w{3}/\d{4}):", moved, line, count=1) for line in lines)


def visits(lines: Iterable[str]) -> dict[tuple[str, str], list[datetime]]:
    """When each (address, browser) that is no bot saw a page, by splitting lines at their quotes."""
    seen: dict[tuple[str, str], list[datetime]] = {}
    begun: dict[tuple[str, str, str], datetime] = {}
    for line in lines:
        parts = line.split('"')
        if len(parts) < 7:
            continue
        method, path = parts[1].split()[:2]
        asset = re.search(
            r"\.(css|js|json|png|jpe?g|gif|svg|ico|ttf|woff|swf|xml|xsl|txt)$",
            path.split("?")[0],
            re.IGNORECASE,
        )
        agent = parts[5]
        if (
            method != "GET"
            or parts[2].split()[0] not in {"200", "206", "304"}
            or asset
            or agent == "-"
            or crawler_of(agent)
        ):
            continue
        at = datetime.strptime(line.split("[")[1].split("]")[0], "%d/%b/%Y:%H:%M:%S %z")
        status, download = parts[2].split()[0], (line.split()[0], agent, path)
        last = begun.get(download)
        if status != "304":
            begun[download] = at
        if status == "206" and last is not None and abs(at - last) <= timedelta(minutes=30):
            continue  # a further piece of a download
        seen.setdefault((line.split()[0], agent), []).append(at)
    return seen


def score(times: list[datetime]) -> int:
    """The mean of the visits' scores: 5 points a page up to 30, and those for the time between first and last."""
    sessions: list[list[datetime]] = []
    for at in sorted(times):
        if sessions and at - sessions[-1][-1] < timedelta(minutes=30):
            sessions[-1].append(at)
        else:
            sessions.append([at])
    scores = []
    for session in sessions:
        seconds = (session[-1] - session[0]).total_seconds()
        steps = ((60, 5), (180, 15), (300, 25), (600, 35), (float("inf"), 40))
        duration = min(points for below, points in steps if seconds < below)
        scores.append(duration + min(30, 5 * len(session)))
    return int((Decimal(sum(scores)) / len(scores)).quantize(Decimal(1), ROUND_HALF_UP))


def test_an_export_holds_every_event_and_is_imported_to_the_same_scores(
    store: str, postgres_url: str, tmp_path: Path
):
    dead_letter_in(store)
    command("simulate", "--leads", 12, "--days", 20, "--until", "2026-06-01", "--into", store=store)
    file = tmp_path / "events.ndjson.gz"
    done = leadstream_here("export", file, LEADSTREAM_DATABASE_URL=store)
    assert done.returncode == 0, done.stderr.decode()
    with psycopg.connect(store, options="-c search_path=live") as connection:
        [events] = connection.execute("select count(*) from event_archive").fetchone()
        expected = connection.execute(SCORES).fetchall()
    assert f"Wrote {events - 1:,} events." in done.stderr.decode()
    assert "1 records cannot be read" in done.stderr.decode()
    name = "exported"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database(name))
        other = postgres_url.replace("/leadstream?", f"/{name}?")
        try:
            command("import", "events", file, store=other)
            with psycopg.connect(other, options="-c search_path=live") as there:
                assert there.execute(SCORES).fetchall() == expected
        finally:
            connection.execute("drop database exported with (force)")
    assert len(expected) > 12


SCORES = "select lead_key, model, total from lead_scores order by 1, 2"


def test_an_export_says_where_to(store: str):
    assert "give a FILE" in command("export", store=store, code=2)
