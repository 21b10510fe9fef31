"""`leadstream import leads`: files of every form, mappings, counters, repetitions and refused rows."""

import gzip
import json
import subprocess
import tomllib
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.door.resolving import AddressMatches, AddressQuery, lead_id_of_address
from leadstream.console import Failure
from leadstream.operations.imports import open_source
from leadstream.operations.lead_files import ImportedRow, RefusedRow, read_lead_file, separator_of
from leadstream.operations.lead_import import LeadImportCounts, import_leads, rejects_file
from leadstream.operations.lead_mapping import (
    BUILT_IN,
    fitted,
    load_mapping,
    mapping_text,
    read_mapping,
)
from schemas.decode import decode_source, key_of
from schemas.envelope import Event, tag_of
from schemas.events import ProfileUpdated
from schemas.record import Outgoing
from streams.replay import Replay
from tests.leadstream.command_line import leadstream

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
HUBSPOT = (
    "Record ID,First Name,Last Name,Email,Phone Number,Company Name,Job Title,Create Date,Last Activity Date,"
    "Marketing emails opened\n"
    "101,Ada,Obi,ada@acme-homes.ae,+971 50 123 4567,Acme,Director,2026-01-02 10:00,2026-03-04 09:30,4\n"
)


class Log:
    """Keeps what is appended; whose an address is, it knows from what it is told."""

    def __init__(self, **owners: str) -> None:
        self.owners = owners
        self.records: list[Outgoing] = []

    def append(self, records: Sequence[Outgoing]) -> None:
        self.records += records

    def resolve(self, queries: Sequence[AddressQuery]) -> Sequence[AddressMatches]:
        return [
            AddressMatches(
                by_email=tuple(filter(None, [self.owners.get((each.email or "").partition("@")[0])]))
            )
            for each in queries
        ]

    @property
    def events(self) -> list[Event]:
        return [decode_source(record.value) for record in self.records]


def imported(
    text: str, log: Log, mapping: str | None = None, *, counters: bool = True, **options: Any
) -> LeadImportCounts:
    lead_file = read_lead_file(iter(text.encode().splitlines(keepends=True)))
    counts = LeadImportCounts()
    import_leads(
        lead_file.rows,
        fitted(load_mapping(mapping), lead_file.columns),
        log.append,
        log.resolve,
        NOW,
        tenant="default",
        counts=counts,
        with_counters=counters,
        **options,
    )
    return counts


def profiles(log: Log) -> list[dict[str, Any]]:
    return [event.fields for event in log.events if isinstance(event, ProfileUpdated)]


# Files


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: text.encode("cp1252"),
        lambda text: gzip.compress(text.encode("cp1252")),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators_are_recognised(tmp_path: Path, encode: Any, separator: str):
    rows = [["name", "e-mail", "city"], ["Jürgen Groß", "jg@acme-homes.ae", '"Köln, Nord; am|Rhein\t1"']]
    path = tmp_path / "leads"
    path.write_bytes(encode("".join(separator.join(row) + "\n" for row in rows)))
    with open_source(str(path)) as source:
        lead_file = read_lead_file(source.lines(lambda _: None))
        [row] = lead_file.rows
    assert row == ImportedRow(
        2, {"name": "Jürgen Groß", "e-mail": "jg@acme-homes.ae", "city": "Köln, Nord; am|Rhein\t1"}
    )


def test_each_line_has_the_encoding_that_it_is_in():
    [old, new] = read_lead_file(iter([b"name\n", "Jürgen\n".encode("cp1252"), "Jürgen\n".encode()])).rows
    assert old.cells == new.cells == {"name": "Jürgen"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a;b\n1,5;2\n", ";"),
        ("name,note\nA,x;y;z\nB,u;v;w\n", ","),
        ('"a,b";c;d\n1;2;3\n', ";"),
        ('a,"b\nstill; b",c\n1,2,3\n', ","),
        ("email\na@acme-homes.ae\n", ","),
        ("a\tb, c\n1\t2\n", "\t"),
    ],
)
def test_separators_are_counted_outside_quotes(text: str, separator: str):
    assert separator_of(text.splitlines(keepends=True)) == separator


def test_a_cell_may_have_line_feeds_and_lines_are_those_of_the_file():
    text = 'name,email\n"A\nB",a@acme-homes.ae\n\nC,c@acme-homes.ae,too much\nD,d@acme-homes.ae\n'
    rows = list(read_lead_file(iter(text.encode().splitlines(keepends=True))).rows)
    assert [row.line for row in rows] == [2, 5, 6]
    assert isinstance(rows[1], RefusedRow)
    assert "3 cells under 2 columns" in rows[1].reason


def test_excels_own_line_names_the_separator():
    lead_file = read_lead_file(iter([b"sep=;\n", b"a,b;c\n", b"1;2\n"]))
    assert lead_file.columns == ["a,b", "c"]


def test_json_lines_are_read_and_what_is_none_is_refused():
    lines = [b'{"email": "a@acme-homes.ae", "qr_scan_count": 2}\n', b"[1]\n", b"{\n", b'{"email": null}\n']
    lead_file = read_lead_file(iter(lines))
    assert list(lead_file.columns) == ["email", "qr_scan_count"]
    assert [type(row) for row in lead_file.rows] == [ImportedRow, RefusedRow, RefusedRow, ImportedRow]


@pytest.mark.parametrize("content", [b"", b"\n\n", b'[{"email": "a"}]', b"a\0b", b"a,b\rc,d\r"])
def test_what_is_no_such_file_is_refused_with_a_remedy(content: bytes):
    with pytest.raises(Failure):
        read_lead_file(iter([content] if content else []))


@pytest.mark.slow
def test_an_open_quote_costs_a_bounded_part_of_the_file_and_no_memory():
    endless = chain([b"name,email\n", b'"A,a@acme-homes.ae\n'], repeat(b"B,b@acme-homes.ae\n", 300_000))
    tracemalloc.start()
    refused = sum(isinstance(row, RefusedRow) for row in read_lead_file(endless).rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused == 1
    assert peak < 10_000_000


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content: bytes):
    try:
        for row in read_lead_file(iter(content.splitlines(keepends=True))).rows:
            assert isinstance(row, ImportedRow | RefusedRow)
    except Failure:
        pass


# Mappings


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_mapping_names_its_source_and_finds_people(name: str):
    path = Path(__file__).parents[2] / "leadstream" / "operations" / "lead_mappings" / f"{name}.toml"
    assert "# Source: https://" in path.read_text("utf-8")
    assert {"email", "phone"} <= load_mapping(name).fields.keys()


@pytest.mark.parametrize(
    ("mapping", "header", "row", "fields"),
    [
        (
            "mautic",
            "id,date_added,firstname,lastname,email,mobile,company,position,title,points",
            "7,2026-01-02 08:00:00,Ada,Obi,ada@acme-homes.ae,,Acme,CTO,Dr,31",
            {
                "first_name": "Ada",
                "last_name": "Obi",
                "email": "ada@acme-homes.ae",
                "company": "Acme",
                "title": "CTO",
            }
            | {"mautic_points": "31", "mautic_id": "7"},
        ),
        (
            "odoo",
            "External ID,Name,Email,Phone,Related Company,Job Position,Created on",
            "__export__.res_partner_7,Ada Obi,ada@acme-homes.ae,,Acme,CTO,2026-01-02 08:00:00",
            {"name": "Ada Obi", "email": "ada@acme-homes.ae", "company": "Acme", "title": "CTO"}
            | {"odoo_id": "__export__.res_partner_7"},
        ),
        (
            "pipedrive",
            "Person - ID,Person - Name,Person - Email - Work,Person - Email - Home,Person - Organization",
            "7,Ada Obi,,ada@acme-homes.ae,Acme",
            {"name": "Ada Obi", "email": "ada@acme-homes.ae", "company": "Acme", "pipedrive_id": "7"},
        ),
    ],
)
def test_exports_of_crms_become_profiles(mapping: str, header: str, row: str, fields: dict[str, Any]):
    log = Log()
    counts = imported(f"{header}\n{row}\n", log, mapping)
    assert counts.refused.total() == 0
    assert profiles(log)[-1] == fields


def test_a_hubspot_contact_is_as_old_as_the_file_says_and_its_counter_is_that_many_events():
    log = Log()
    counts = imported(HUBSPOT, log, "hubspot")
    kinds = [(tag_of(type(event)), event.occurred_at.isoformat()) for event in log.events]
    assert kinds == [
        ("profile_updated", "2026-01-02T10:00:00+00:00"),
        ("profile_updated", "2026-03-04T09:30:00+00:00"),
        *[("email_opened", "2026-03-04T09:30:00+00:00")] * 4,
    ]
    assert all(event.imported and event.source == "crm" and not event.reply for event in log.events)
    assert log.events[0].lead_id == lead_id_of_address("default", "email", "ada@acme-homes.ae")
    assert len({event.event_id for event in log.events}) == 6
    assert len({key_of(event) for event in log.events}) == 1
    assert (counts.rows, counts.taken, counts.counted) == (1, 1, 4)
    assert profiles(log)[1] == {
        "hubspot_id": "101",
        "first_name": "Ada",
        "last_name": "Obi",
        "email": "ada@acme-homes.ae",
        "phone": "+971501234567",
        "company": "Acme",
        "title": "Director",
    }


def test_without_counters_only_profiles_are_imported():
    log = Log()
    imported(HUBSPOT, log, "hubspot", counters=False)
    assert len(log.events) == len(profiles(log)) == 2


def test_the_guess_is_a_mapping_that_can_be_saved_and_used():
    columns = ["Full Name", "E-Mail", 'Weird "column"', "qr_scan_count", "Mobile-Phone"]
    guess = fitted(load_mapping(None), columns)
    text = mapping_text(guess, columns)
    assert read_mapping(text, "saved") == guess
    assert guess.fields == {"name": ("Full Name",), "email": ("E-Mail",), "phone": ("Mobile-Phone",)}
    assert guess.counters == {"qr_scanned": ("qr_scan_count",)}
    assert '#   "Weird \\"column\\""' in text


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_column_can_be_named_in_a_mapping(columns: list[str]):
    mapping = read_mapping("", "empty")._replace(fields={"name": tuple(columns)})
    try:
        assert tomllib.loads(mapping_text(mapping, []))["fields"]["name"] == columns
    except tomllib.TOMLDecodeError:
        assert any("\ud800" <= each <= "\udfff" for column in columns for each in column)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fields = 1", "fields"),
        ("[field]", "field"),
        ("[fields]\nEmail = 'x'", "fields.Email"),
        ("[fields]\nemail = 1", "fields.email"),
        ("[counters]\npurchase_made = 'x'", "counters.purchase_made"),
        ("[lead]\nname = 'x'", "lead.name"),
        ("[lead]\nprefix = ['x']", "lead.prefix"),
        ("[lead", "no TOML"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_key(text: str, named: str):
    with pytest.raises(Failure, match=named):
        read_mapping(text, "mine")


# Leads


def test_old_rows_with_counters_become_that_many_events_at_their_last_date():
    text = (
        "lead_id,name,phone,qr_scan_count,catalog_views,messages_count,last_interaction_at\n"
        "7,Omar,+971501234567,2,1,3,2026-02-03T04:05:06Z\n"
    )
    log = Log()
    imported(text, log)
    last = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    kinds = [tag_of(type(event)) for event in log.events]
    assert kinds == [
        "profile_updated",
        "qr_scanned",
        "qr_scanned",
        "catalog_viewed",
        *["message_received"] * 3,
    ]
    assert {(event.lead_id, event.visitor_id, event.occurred_at) for event in log.events} == {
        ("7", None, last)
    }


def test_the_same_file_twice_changes_nothing_also_if_the_addresses_have_other_owners_by_then():
    text = HUBSPOT + "102,Bo,Li,bo@acme-homes.ae,,,,,,2\n"
    first, second = Log(), Log(ada="lead-9", bo="lead-10")
    imported(text, first, "hubspot")
    imported(text, second, "hubspot")
    assert [(key_of(event), event.event_id) for event in first.events] == [
        (key_of(event), event.event_id) for event in second.events
    ]
    changes: list[Any] = []
    replay = Replay([], on_output=changes.append)
    replay.append(first.records)
    replay.fold_all()
    before = len([each for each in changes if "score-changed" in each[0]])
    replay.append(second.records)
    replay.fold_all()
    assert len([each for each in changes if "score-changed" in each[0]]) == before


def test_a_newer_export_adds_only_what_a_counter_has_gained():
    older, newer = Log(), Log()
    imported(HUBSPOT, older, "hubspot")
    imported(HUBSPOT.replace(",4\n", ",6\n"), newer, "hubspot")
    ids = {event.event_id for event in older.events}
    assert [tag_of(type(event)) for event in newer.events if event.event_id not in ids] == [
        "email_opened"
    ] * 2


def test_a_row_belongs_to_the_lead_that_has_its_address():
    log = Log(ada="lead-9")
    imported(HUBSPOT, log, "hubspot")
    assert log.events[0].lead_id == "lead-9"


@pytest.mark.parametrize("lead_id", ["test", "0", "N/A", "Guest User"])
def test_an_id_that_names_nobody_is_left_out_though_the_mapping_has_a_prefix(lead_id: str):
    log = Log()
    imported(HUBSPOT.replace("101", lead_id), log, "hubspot", counters=False)
    assert {event.lead_id for event in log.events} == {
        lead_id_of_address("default", "email", "ada@acme-homes.ae")
    }


def test_blank_cells_say_nothing():
    log = Log()
    imported("email,company,title\nada@acme-homes.ae,N/A, \n", log)
    assert profiles(log) == [{"email": "ada@acme-homes.ae"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",,,", None),
        (",Ada,,", "no e-mail address, no phone number and no id"),
        ("no address,Ada,,", "no e-mail address or phone number of one person"),
        ("a@acme-homes.ae,Ada,yesterday,", "yesterday is no date"),
        ("a@acme-homes.ae,Ada,03/04/2026,", "no date that can be read for certain"),
        ("a@acme-homes.ae,Ada,,many", "many is no number of qr_scanned"),
        ("a@acme-homes.ae,Ada,,-1", "from 0 to 10,000"),
        ("a@acme-homes.ae,Ada,,10001", "from 0 to 10,000"),
        (f"a@acme-homes.ae,{'A' * 1100},,", "name"),
    ],
)
def test_a_refused_row_is_named_with_its_line_and_costs_only_itself(
    row: str, reason: str | None, tmp_path: Path
):
    log, path = Log(), tmp_path / "rejects.csv"
    text = f"email,name,date,qr scans\n{row}\nb@acme-homes.ae,Bo,2026-01-01,1\n"
    with rejects_file(path) as reject:
        counts = imported(text, log, reject=reject)
    assert (counts.taken, counts.counted) == (1, 1)
    written = path.read_text("utf-8").splitlines()
    if reason is None:
        assert len(written) == 1
        return
    [refused] = counts.rejects
    assert refused.line == 2
    assert reason in refused.reason
    assert len(written) == 2


def test_dates_are_read_by_the_form_that_the_mapping_names():
    lead_file = read_lead_file(iter([b"email;seen\n", b"a@acme-homes.ae;03.04.2026\n"]))
    mapping = read_mapping(
        "[lead]\nlast_date = 'seen'\ndate_format = '%d.%m.%Y'\n[fields]\nemail = 'email'", "x"
    )
    log = Log()
    import_leads(
        lead_file.rows,
        mapping,
        log.append,
        log.resolve,
        NOW,
        tenant="default",
        counts=LeadImportCounts(),
        with_counters=False,
    )
    assert log.events[0].occurred_at == datetime(2026, 4, 3, tzinfo=UTC)


def test_an_import_can_go_on_at_a_line():
    text = "email\n" + "".join(f"lead{number}@acme-homes.ae\n" for number in range(30))
    log = Log()
    counts = imported(text, log, from_line=22)
    assert (counts.rows, len(log.events), counts.resume_at) == (10, 10, 2)


def peak_memory_of_import(rows: int) -> int:
    def lines() -> Iterator[bytes]:
        yield b'{"email": "lead@acme-homes.ae", "messages_count": 3}\n'
        for number in range(1, rows):
            yield json.dumps({"email": f"lead{number}@acme-homes.ae", "name": "A" * 1_000}).encode() + b"\n"

    class Nowhere(Log):
        def append(self, records: Sequence[Outgoing]) -> None:
            assert len(records) <= 1_000

    log, lead_file, counts = Nowhere(), read_lead_file(lines()), LeadImportCounts()
    tracemalloc.start()
    import_leads(
        lead_file.rows,
        fitted(load_mapping(None), lead_file.columns),
        log.append,
        log.resolve,
        NOW,
        tenant="default",
        counts=counts,
        with_counters=True,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.taken == rows
    return peak


@pytest.mark.slow
def test_a_longer_file_takes_no_more_memory():
    assert peak_memory_of_import(4_000) <= 1.2 * peak_memory_of_import(2_000)


@pytest.mark.postgres
def test_the_command_imports_once_asks_before_it_counts_and_joins_leads(database_url: str, tmp_path: Path):
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        where = ("--database-url", database_url, "--data-dir", tmp_path / "data")
        done = leadstream("import", "leads", path, *options, *where)
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def stored() -> list[tuple[Any, ...]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(
                """select l.lead_id, l.name, l.created_at, l.counts, s.total, s.version from live.leads l
                   join live.lead_scores s using (lead_key) order by l.lead_id, s.model"""
            ).fetchall()

    path = tmp_path / "hubspot.csv"
    path.write_text(HUBSPOT, encoding="cp1252")
    asking = run("--mapping", "hubspot")
    assert asking.returncode != 0
    assert "pass --yes" in asking.stderr
    shown = run("--mapping", "hubspot", "--show-mapping")
    assert 'email = ["Email"]' in shown.stdout
    first = run("--mapping", "hubspot", "--yes")
    assert first.returncode == 0, first.stderr
    assert "New leads: 1" in first.stdout
    rows = stored()
    assert {row[0] for row in rows} == {lead_id_of_address("default", "email", "ada@acme-homes.ae")}
    assert rows[0][1:3] == ("Ada Obi", datetime(2026, 1, 2, 10, tzinfo=UTC))
    assert rows[0][3]["email_opened"] == 4
    second = run("--mapping", "hubspot", "--yes")
    assert "New leads: 0" in second.stdout
    assert stored() == rows
