"""The same history through the embedded log and through Kafka: what must be equal, is.

Independent of interleaving: features, sessions, and scores that read no stage, at a given clock. Given the
recorded order of `lead-activity`: every statement, which each side's own order must give when it is folded
again.
"""

import itertools
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "drivers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
from driven import PARTITIONS, Clock, EmbeddedRun, KafkaRun
from entangled import entangled, mixed_in
from kafka_log import KafkaLog
from recorded_order import EmbeddedLog, assert_statements, folded_activity, refold

from leadstream.operations.imports import append_all, import_access_log
from leadstream.simulation.simulate import simulated_events
from leadstream.stages import STAGES
from leadstream.wiring import genesis
from schemas.decode import decode_statement
from schemas.moment import millis
from schemas.statements import SessionRetracted
from schemas.topics import PARTITION_WIDE_KEY, SESSION_SCORES
from scoring.features.calendar import calendar
from scoring.models.model import Subject, built_in_models, score_lead
from streams.published import compiled_model
from streams.score_leads.lead_state import LeadState

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

REAL_LOG = Path(__file__).parents[2] / "../shared/data/access-log/access.log"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
IDLE_MS = 30 * 60_000
ENTANGLED = "default/v/g"


def simulated(run):
    events = itertools.islice(simulated_events(seed=11, leads=100, days=60, until=NOW), 1_000)
    moving = entangled(11, 12, NOW - timedelta(days=60), NOW)
    append_all(mixed_in(map(recorded, events), moving), run.append)


def recorded(event):
    """As the door would have recorded it."""
    return msgspec.structs.replace(event, recorded_at=event.recorded_at or event.occurred_at)


def real(run):
    with REAL_LOG.open("rb") as lines:
        import_access_log(itertools.islice(lines, 1_500), run.append, datetime.now(UTC), tenant="default")


def plain(thing):
    """Comparable, whatever is in it."""
    return msgspec.json.encode(msgspec.to_builtins(thing), order="sorted")


def leads_of(run):
    """Those who hold anybody, or were merged into another."""
    found = (
        LeadState(key, parts) for key, parts in run.state("score_leads").items() if key != PARTITION_WIDE_KEY
    )
    return {lead.key: lead for lead in found if lead.identities or lead.head.redirect is not None}


def homes(lead):
    """Identity -> the lead that it calls its own."""
    return {name: held.home for name, held in lead.identities.items()}


def scores_at(lead, at):
    return {
        name: score_lead(
            compiled_model(text), Subject(lead.features, "new"), at, calendar("UTC"), IDLE_MS
        ).total
        for name, text in built_in_models().items()
    }


def sessions_of(run):
    """(identity, session) -> what was last said of it, but for its order among other statements. Of who is
    merged and split again and again, several leads said it, in an order that is nobody's.
    """
    last = {}
    for record in run.records(SESSION_SCORES):
        said = decode_statement(record.value)
        if not said.identity.startswith(ENTANGLED):
            last[said.identity, said.session_id] = said
    return {
        place: (said.lead_id, said.score, said.lines, said.started_at, said.last_at, said.pages, said.clicks)
        for place, said in last.items()
        if not isinstance(said, SessionRetracted)
    }


def through(run, log, history):
    """What one driver made of the history, once it is checked against its own recorded order."""
    try:
        history(run)
        run.settle()
        run.stop()  # what is read topic by topic must not move
        said, _ = refold(folded_activity(log))
        assert_statements(log, said)
        return leads_of(run), sessions_of(run)
    finally:
        run.close()


@pytest.mark.parametrize(
    "history",
    [
        simulated,
        pytest.param(
            real,
            marks=pytest.mark.skipif(
                not REAL_LOG.exists(), reason="no real access log in ../shared/data/access-log"
            ),
        ),
    ],
)
def test_both_drivers_come_to_the_same_leads(cluster, database_url, history):
    begin = genesis(NOW)
    embedded, embedded_sessions = through(
        EmbeddedRun(database_url, [stage() for stage in STAGES], Clock(), begin),
        EmbeddedLog(database_url),
        history,
    )
    kafka, kafka_sessions = through(
        KafkaRun(cluster, [stage() for stage in STAGES], Clock(), begin),
        KafkaLog(cluster, PARTITIONS),
        history,
    )
    assert len(embedded) > 100
    if history is simulated:
        assert sum(len(set(homes(lead).values())) > 1 for lead in embedded.values()) > 10  # merged ones
    assert kafka.keys() == embedded.keys()
    for key, lead in embedded.items():
        assert plain(kafka[key].features) == plain(lead.features), key
        assert homes(kafka[key]) == homes(lead), key
        assert kafka[key].head.redirect == lead.head.redirect, key
        for at in (millis(NOW), millis(NOW) + 40 * 86_400_000):
            assert scores_at(kafka[key], at) == scores_at(lead, at), key
    assert len(embedded_sessions) > 50
    assert kafka_sessions == embedded_sessions
