"""Whatever decodes can be projected: one record that could not be would stop a whole store.

Hostile events go past the door straight into the log, through both real stages, and what these say
into the read models.
"""

import json
from typing import Any

import psycopg
import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projection_records import recorded
from stream_histories import history, specs
from stream_simulator import Pipeline

from projections.worker import project_records
from schemas import examples
from schemas.activity import IdentityAttached, IdentityDelta
from schemas.decode import decode_activity
from schemas.events import PageViewed
from schemas.moment import moment
from schemas.record import Outgoing, Record
from schemas.statements import BandChanged
from schemas.topics import EVENTS, LEAD_ACTIVITY
from scoring.models.model import built_in_models

pytestmark = pytest.mark.postgres
PROPERTY = settings(
    max_examples=scaled(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

MODELS = tuple(built_in_models().items())
EXAMPLES = [json.loads(line) for line in examples.events()]

ODD_TEXT = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "a\0b",
            "\\u0000",
            "\\",
            '"',
            "\ud800",
            "\U0001f469\u200d\U0001f467",
            "\u202egnp.exe",
            "e\u0301" * 40,
            "\uffff",
            "\ufeff",
            "'; drop table live.leads; --",
            "=cmd|' /C calc'!A0",
            "%s%n{}%(a)s",
            "ß" * 120,
            "İ" * 128,
            "\U0010ffff" * 128,
            "x" * 2048,
            "anon:v1",
            "null",
            "a/l/b",
            "~",
            "id:",
        ]
    ),
    st.text(max_size=12),
)
ODD_MOMENT = st.sampled_from(
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00-12:00",
        "1582-10-10T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2026-02-28T23:59:60Z",
        "2026-03-01T12:00:00.999999Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.999999-12:00",
    ]
)
ODD_NUMBER = st.sampled_from(
    [
        0,
        -0.0,
        1,
        100,
        0.1,
        1e-6,
        1e-7,
        5e-324,
        1e15,
        1e308,
        2**31,
        2**53,
        2**63,
        2**64,
        10**12,
        999999999999.999999,
    ]
)
ODD = st.one_of(ODD_TEXT, ODD_NUMBER, st.none(), st.dictionaries(ODD_TEXT, ODD_TEXT))


@st.composite
def odd_events(draw: st.DrawFn) -> bytes:
    """An example of some type, a few of its fields replaced, mostly by their like; as bytes that a
    writer of JSON may write. About every second one decodes.
    """
    event = json.loads(json.dumps(draw(st.sampled_from(EXAMPLES))))
    for _ in range(draw(st.integers(0, 3))):
        within = event
        while True:
            name = draw(st.sampled_from(sorted(set(within) - {"type"}) or ["new"]))
            if not isinstance(within.get(name), dict) or draw(st.booleans()):
                break
            within = within[name]
        match within.get(name):
            case _ if name in {"occurred_at", "recorded_at"}:
                odd = ODD_MOMENT
            case int() | float():
                odd = ODD_NUMBER
            case str():
                odd = ODD_TEXT
            case _:
                odd = ODD
        within[name] = draw(odd)
    ascii_only = draw(st.booleans())
    return json.dumps(event, ensure_ascii=ascii_only).encode(errors="surrogatepass")


class Recorded(Pipeline):
    """A pipeline that keeps everything that the log would keep, as it came."""

    def __init__(self, **given: Any) -> None:
        self.log: list[Outgoing] = []
        super().__init__(**given)

    def append(self, outgoing: Outgoing) -> None:
        self.log.append(outgoing)
        super().append(outgoing)

    def records(self) -> list[Record]:
        return recorded(self.log)


def told(records: list[Record]) -> int:
    """How many events the activity carries."""
    said = [decode_activity(record.value) for record in records if record.topic == LEAD_ACTIVITY]
    return sum(isinstance(s, IdentityDelta | IdentityAttached) and s.event is not None for s in said)


def project_whole(db: psycopg.Connection[Any], pipeline: Recorded) -> None:
    """Everything that was recorded, in a transaction that is rolled back."""
    records = pipeline.records()
    with db.transaction(force_rollback=True):
        project_records(db, records)
        (facts,) = db.execute("select count(*) from live.engagement_history").fetchone()
        (letters,) = db.execute("select count(*) from live.dead_letters").fetchone()
    assert (facts, letters) == (told(records), len(pipeline.dead))


@PROPERTY
@given(raw=st.lists(odd_events(), min_size=1, max_size=8), seed=st.integers(0, 9))
def test_whatever_a_producer_writes_past_the_door_is_projected(db, raw, seed):
    pipeline = Recorded(models=MODELS)
    for n, value in enumerate(raw):
        pipeline.append(Outgoing(EVENTS, f"k{n % 3}", value))
    project_whole(db, pipeline.run(seed))


@PROPERTY
@given(spec=specs(), seed=st.integers(0, 9))
def test_every_history_is_projected(db, spec, seed):
    """Merges, splits, shared devices, late events, timers."""
    project_whole(db, Recorded(models=MODELS).run(seed, history(spec, cycles=True), timers=5))


def page(number: int, visitor: str, lead_id: str | None = None) -> PageViewed:
    at = moment(1_772_000_000_000 + number * 1000)
    return PageViewed(
        event_id=f"e{number}", occurred_at=at, recorded_at=at, visitor_id=visitor, lead_id=lead_id
    )


ODD_MODEL = """
model = "odd"
bands = { odd = { "warm\\u0000\U0001f525" = 0, "%s" = 10 } }
[groups."a\\u0000b"]
rules = [{ name = "Pages\\u0000", each = "page_viewed", points = 5 }]
"""


def test_names_that_a_model_gives_are_projected(db):
    """TOML can say NUL, which PostgreSQL cannot store."""
    pipeline = Recorded(models=[*MODELS, ("odd", ODD_MODEL)])
    pipeline.run(1, [page(n, "v") for n in range(3)])
    crossed = [said for said in pipeline.statements(BandChanged) if said.model == "odd"]
    assert [said.band for said in crossed] == ["warm\0🔥", "%s"]
    project_whole(db, pipeline)


def test_a_publication_of_the_highest_version_is_projected(db):
    """What a producer writes into `events` with a higher one yet becomes a dead letter."""
    pipeline = Recorded()
    pipeline.publish("temperature", 2**53, dict(MODELS)["temperature"], at=0)
    for version in (2**53 + 1, 2**63, 2**64 - 1, 2**64):
        beyond = {**json.loads(examples.control()[0]), "version": version}
        pipeline.append(Outgoing(EVENTS, "~", json.dumps(beyond).encode(), 0))
    pipeline.run(1, [page(n, "v") for n in range(3)])
    assert len(pipeline.dead) == 4
    project_whole(db, pipeline)


def test_a_lead_of_more_identities_than_it_holds_is_projected(db):
    pipeline = Recorded(models=MODELS)
    pipeline.run(1, [page(n, f"v{n}", "L") for n in range(60)])
    project_whole(db, pipeline)


def test_an_event_that_comes_again_after_its_id_was_let_go_is_projected(db):
    pipeline = Recorded(models=MODELS)
    for seed in (1, 2):
        pipeline.run(seed, [page(n, f"v{n % 2}", "L") for n in range(6)])
        for store in pipeline.stores[EVENTS]:
            for parts in store.parts.values():
                for part in [part for part in parts if part.startswith("seen")]:
                    del parts[part]
    assert told(pipeline.records()) == 12
    project_whole(db, pipeline)
