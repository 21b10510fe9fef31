"""Erasing a person: nothing of them is anywhere afterwards, and everybody else is as they were."""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from erasable_person import LEAD, VALUES, fill, found_values, of_person, outgoing, read_rows, values_in_files

from leadstream.active_models import analytics_settings
from leadstream.console import Failure
from leadstream.operations import erasing, person_export
from leadstream.operations.backup import dump_database, load_dump
from leadstream.operations.erasing import (
    finish_erasure,
    preview_erasure,
    register_erasure,
    resume_erasures,
)
from leadstream.operations.erasure_ledger import add_to_ledger, read_ledger
from leadstream.operations.person_export import FILES, write_person
from leadstream.operations.recorded_log import ArchivedParts
from leadstream.operations.store_access import StoreAccess, store_of_system
from leadstream.settings import Settings
from leadstream.wiring import open_system
from projections import erasures, table_sets
from projections.erasures import BY_OTHER_KEYS, NAMELESS_TABLES, read_erasures, tables_of_people
from projections.person import Person
from projections.rebuild import rebuild
from projections.row_keys import lead_row_key
from projections.table_definition import READ_OPTIONS
from schemas.control import PersonErased
from schemas.publications import Publication

WHILE_MERGED = "https://shop.example/while-merged"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Erasable:
    store: StoreAccess
    ledger: Path

    @property
    def url(self) -> str:
        return self.store.database_url

    def registered(self) -> erasures.Erasure:
        erasure = register_erasure(self.url, self.ledger, "default", LEAD, now(), "test")
        assert erasure is not None
        return erasure


@pytest.fixture
def system(read_models_url: str, tmp_path: Path) -> Iterator[Erasable]:
    with open_system(Settings(database_url=read_models_url, partitions=2)) as opened:
        store = store_of_system(opened)
        fill(store)
        yield Erasable(store, tmp_path / "ledger.jsonl")


def of_others(rows: dict[str, list[dict[str, Any]]], person: Any) -> dict[str, list[dict[str, Any]]]:
    """The rows of tables with leads or identities that are nobody's of this person."""
    leads, identities = set(person.row_keys), set(person.identity_keys)
    return {
        name: [
            row
            for row in some
            if row.get("lead_key") not in leads and row.get("identity_key") not in identities
        ]
        for name, some in rows.items()
        if name not in NAMELESS_TABLES | {"dead_letters", "stale_leads"}
    }


def test_nothing_of_an_erased_person_is_left_and_the_others_are_as_they_were(system: Erasable):
    url = system.url
    everything = {value for values in found_values(url).values() for value in values}
    assert everything == set(VALUES), "the person went through everything"
    preview = preview_erasure(url, "default", LEAD)
    assert preview is not None
    before = read_rows(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("checkpoint")
    assert values_in_files(url) == set(VALUES)

    done = finish_erasure(system.store, system.ledger, system.registered(), now, rewrite=True)

    assert found_values(url) == {}
    assert values_in_files(url) == set(), "tables are written anew: not even free space has a value"
    rows = {name: count for name, count in preview.rows.items() if name not in BY_TOMBSTONE}
    rows["lead_records"] += 1  # that the erased identity left its lead
    assert {name: done.removed.get(name) for name in rows} == rows
    assert done.removed.keys() == rows.keys() | preview.records.keys()
    after = read_rows(url)
    assert of_others(after, preview.person) == of_others(before, preview.person)
    assert {row["lead_id"] for row in after["leads"]} == {
        "lead-brother", "lead-0", "lead-1", "lead-2", "lead-3",
    }  # fmt: skip
    assert not any(value in system.ledger.read_text() for value in VALUES)

    # A rebuild of the log with its stubs makes the same rows, sums included.
    rebuild(url, read_settings=analytics_settings)
    assert read_rows(url) == after
    assert resume_erasures(system.store, system.ledger, now) == 0

    # What comes later about the person is kept nowhere, also if it comes past the door.
    system.store.append(outgoing(of_person(), "later"))
    system.store.settle(lambda _: None)
    assert found_values(url) == {}
    letters = read_rows(url)["dead_letters"]
    assert len(letters) == len(of_person())
    assert {(row["key"], row["original"]) for row in letters} == {("~erased", "\\x")}


BY_TOMBSTONE = {"leads", "lead_scores", "lead_search"}
"""The folds remove these rows, as they do of every lead that is no longer one."""


class Killed(BaseException):
    """As a kill -9, nobody catches it."""


def test_an_erasure_that_is_killed_between_any_two_steps_is_finished_by_the_next_start(
    system: Erasable, monkeypatch: pytest.MonkeyPatch
):
    def dying(*_: Any, **__: Any) -> Any:
        raise Killed

    def recorded_and_dying(*arguments: Any) -> Any:
        add_to_ledger(*arguments)
        raise Killed

    def killed_at(patched: Callable[[pytest.MonkeyPatch], None]) -> None:
        with monkeypatch.context() as patch:
            patched(patch)
            with pytest.raises(Killed):
                resume_erasures(system.store, system.ledger, now)

    with monkeypatch.context() as patch:
        patch.setattr(
            erasing, "add_to_ledger", recorded_and_dying
        )  # the ledger has the line, the database no row
        with pytest.raises(Killed):
            system.registered()
    killed_at(lambda patch: patch.setattr(erasing, "_records_of_erasure", dying))
    killed_at(lambda patch: patch.setattr(erasing, "_has_grown", dying))
    killed_at(lambda patch: patch.setattr(erasures, "delete_rows", dying))  # the stubs are rolled back
    killed_at(lambda patch: patch.setattr(erasures, "analytics_wait", dying))
    killed_at(lambda patch: patch.setattr(erasures, "vacuum_rows", dying))
    assert resume_erasures(system.store, system.ledger, now) == 1
    assert found_values(system.url) == {}
    with psycopg.connect(system.url) as connection:
        (erasure,) = read_erasures(connection)
    assert (erasure.step, erasure.person) == ("done", None)


def test_an_older_backup_brings_nobody_back(system: Erasable, empty_database_url: str, tmp_path: Path):
    dump_database(system.url, tmp_path / "before.dump")
    finish_erasure(system.store, system.ledger, system.registered(), now)
    load_dump(empty_database_url, tmp_path / "before.dump")
    assert found_values(empty_database_url)
    with open_system(Settings(database_url=empty_database_url)) as restored:
        store = store_of_system(restored)
        assert resume_erasures(store, system.ledger, now) == 1
        assert found_values(empty_database_url) == {}
        assert {row["lead_id"] for row in read_rows(empty_database_url)["leads"]} == {
            row["lead_id"] for row in read_rows(system.url)["leads"]
        }


def test_a_lead_that_was_merged_by_mistake_keeps_its_points_and_nothing_of_the_person(system: Erasable):
    for record in outgoing(of_mistakes(), "mistake"):
        system.store.append([record])
        system.store.settle(lambda _: None)
    found = found_values(system.url)
    assert {"live.lead_records", "live.score_history"} <= found.keys()
    before = points_of_others(system.url)

    finish_erasure(system.store, system.ledger, system.registered(), now, rewrite=True)

    assert found_values(system.url) == {}
    assert points_of_others(system.url) == before, "the ledger still adds up"
    rows = read_rows(system.url)
    rebuild(system.url, read_settings=analytics_settings)
    rebuilt = read_rows(system.url)
    # What the other lead's visitors did under the erased lead, and the undoing of the merge, are in the log without that lead.
    assert rebuilt == rows
    kinds = [row["type"] for row in rebuilt["engagement_history"]]
    assert kinds.count("merge_undone") == 1
    assert [row["url"] for row in rebuilt["engagement_history"]].count(WHILE_MERGED) == 2


def of_mistakes() -> list[dict[str, Any]]:
    """The person into another lead and back, and another lead into the person's; the person acts meanwhile."""
    acts = [
        {
            "type": "demo_requested",
            "visitor_id": "browser-zq-1",
            "event_id": "zephyrina@quillfeather.example/1",
        },
        {"type": "session_started", "visitor_id": "browser-zq-1"},
        {"type": "page_viewed", "visitor_id": "browser-zq-1"},
        {"type": "demo_requested", "visitor_id": "w-0"},
    ]
    return [
        {"type": "leads_merged", "lead_id": LEAD, "into": "lead-0"},
        *acts,
        {"type": "merge_undone", "lead_id": LEAD},
        {"type": "leads_merged", "lead_id": "lead-0", "into": LEAD, "event_id": "lead-0/crm-zq-90210"},
        *acts[1:3],
        {"type": "session_started", "visitor_id": "w-0"},
        {"type": "page_viewed", "visitor_id": "w-0", "url": WHILE_MERGED},
        {"type": "lead_identified", "visitor_id": "w-new", "lead_id": "lead-0"},
        {"type": "page_viewed", "visitor_id": "w-new", "url": WHILE_MERGED},
        {"type": "merge_undone", "lead_id": "lead-0"},
        {"type": "demo_requested", "visitor_id": "w-0"},
    ]


def points_of_others(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        return connection.execute(
            "select at, position, model, total, change, lines, split_part(caused_by, ':', 1) from score_history "
            "where lead_key = any(%s) order by lead_key, position",
            ([lead_row_key("default", each) for each in ("lead-brother", "lead-0", "lead-1")],),
        ).fetchall()


def test_an_archive_has_everything_of_one_person_and_nothing_of_others(system: Erasable, tmp_path: Path):
    path = tmp_path / "person.zip"
    count = write_person(system.url, "default", "lead-zq-twin", path, now())
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert count == len(texts)
    assert {value for value in VALUES if any(value in text for text in texts.values())} == set(VALUES)
    for other in ("lead-brother", "lead-0", "198.51.100.4", "p1@firm.example"):
        assert not [name for name, text in texts.items() if other in text], other
    assert len(texts["events.jsonl"].splitlines()) == len(of_person())
    (profile,) = [row for row in json.loads(texts["profile.json"]) if row["lead_id"] == LEAD]
    assert profile["email"] == "zephyrina@quillfeather.example"
    assert "120" in texts["interactions.json"]
    assert "chatbot" in texts["explanation.txt"]
    for name in texts:
        assert name == "README.txt" or name in texts["README.txt"], f"the README says what {name} is"


def test_an_id_that_a_stranger_chose_reaches_no_other_tenant_and_rewrites_no_audit_log(system: Erasable):
    person = Person("default", ["visitor_id", "user.create"], [], [], [], [], [])
    original = b'{"visitor_id": "victim", "type": "user.create"}'
    with psycopg.connect(system.url, options="-c search_path=live,public") as connection:
        for position, key in enumerate(("b/v/victim", "default/v/other", None)):
            connection.execute(
                "insert into dead_letters values ('events', 0, %s, 'r', null, %s, %s, %s)",
                (9_000 + position, key, original, 9_000 + position),
            )
        connection.execute(
            "insert into audit_log (tenant, at, actor, action, outcome, after) "
            "values ('default', now(), 'cli:x', 'user.create', 'done', %s), ('*', now(), 'cli:x', 'x', 'done', %s)",
            ('{"scopes":"user.create.x"}', '{"lead_id":"visitor_id"}'),
        )
        # The tenant's own, and the one without a key: a field of theirs has the name as its value.
        assert erasures.count_rows(connection, person)["dead_letters"] == 2
        assert erasures.mask_audit_log(connection, person) == 0
        named = Person("default", ["lead-of-default"], [], [], [], [], [])
        connection.execute(
            "insert into dead_letters values ('events', 0, 9010, 'r', null, 'b/l/x', %s, 9010)",
            (b'{"lead_id": "lead-of-default"}',),
        )
        assert "dead_letters" not in erasures.count_rows(connection, named), "another tenant's record"
        connection.rollback()


def test_a_store_that_is_restated_from_an_archive_refuses_the_same_people(system: Erasable):
    done = finish_erasure(system.store, system.ledger, system.registered(), now)
    with psycopg.connect(system.url, options=READ_OPTIONS) as connection:
        publications: list[object] = []
        for part in ArchivedParts(connection).parts():
            if isinstance(part, Publication):
                publications.append(part)
            else:
                assert not [event for event in part if LEAD.encode() in event.value]
    assert isinstance(publications[-1], PersonErased)
    assert publications[-1].hashes == done.hashes


def test_every_table_is_either_of_people_or_of_nobody():
    """A new table is exported and erased by the columns that it has; one without them is named with its reason."""
    covered = {table.name for table, _ in tables_of_people()}
    analytics = {table.name for table in table_sets.ANALYTICS_TABLES if "lead_key" in table.columns}
    every = {table.name for table in table_sets.ALL_TABLES.sorted_tables}
    assert covered | analytics | BY_OTHER_KEYS | NAMELESS_TABLES == every
    assert not (covered | BY_OTHER_KEYS) & NAMELESS_TABLES
    exported = FILES.keys() | person_export.NOTHING
    assert covered | analytics | BY_OTHER_KEYS <= exported


def test_a_ledger_that_a_crash_has_cut_is_read_and_a_damaged_one_is_refused(tmp_path: Path):
    from leadstream.operations.erasure_ledger import add_to_ledger

    ledger = tmp_path / "ledger"
    assert read_ledger(ledger) == []
    first, second = (
        erasures.Erasure(name * 16, "default", "00" * 16, ["11" * 8], now(), "x", "registered")
        for name in "ab"
    )
    add_to_ledger(ledger, [first])
    with ledger.open("ab") as file:
        file.write(b'{"erasure_id":"cut')
    add_to_ledger(ledger, [second])
    assert [each.erasure_id for each in read_ledger(ledger)] == ["a" * 16, "b" * 16]
    ledger.write_bytes(b'{"erasure_id":"a"}\n')
    with pytest.raises(Failure, match=r"LEADSTREAM_ERASURES_FILE: line 1 .* is no erasure"):
        read_ledger(ledger)
