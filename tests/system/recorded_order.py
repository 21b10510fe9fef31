"""The oracle of crash tests: fold the recorded `lead-activity` once more, from nothing, in memory, and
hold everything that the database has against it.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import psycopg

from leadstream.active_models import analytics_settings
from projections.analytics_tables import stale_leads
from projections.analytics_worker import compute_every_stale_lead
from schemas import statements as say
from schemas.activity import IdentityAttached, IdentityDelta
from schemas.decode import decode_activity, decode_source, decode_statement, key_of
from schemas.envelope import Event
from schemas.record import Record
from schemas.topics import (
    EVENTS,
    LEAD_ACTIVITY,
    LEAD_CHANGES,
    LEAD_SCORES,
    SCORE_CHANGED,
    SESSION_SCORES,
    lead_key,
)
from streams.engine.shard import Shard
from streams.score_leads.stage import SCORE_LEADS

sys.path.insert(0, str(Path(__file__).parents[1] / "streams"))
from stream_simulator import Store  # the simulator's store serves here, too


class EmbeddedLog:
    """An embedded log as it stands."""

    def __init__(self, url):
        self._url = url

    def read(self, topic):
        """Partition -> its records in order."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                """select topic, partition, position, key, value from records
                   where topic = %s order by partition, position""",
                (topic,),
            ).fetchall()
        log = defaultdict(list)
        for row in rows:
            log[row[1]].append(Record(*row))
        return log

    def folded(self):
        """Partition -> up to which position of `lead-activity` stage 2 has come."""
        with psycopg.connect(self._url) as connection:
            return dict(
                connection.execute(
                    "select partition, position from checkpoints where stage = 'score_leads'"
                ).fetchall()
            )


def folded_activity(log):
    """The recorded order as far as it is folded: a timer may just have written more."""
    reached = log.folded()
    return {
        partition: [record for record in records if record.position < reached.get(partition, 0)]
        for partition, records in log.read(LEAD_ACTIVITY).items()
    }


def refold(activity):
    """Outputs per (topic, key) in order, and the cards, of folding the recorded order."""
    said, cards = defaultdict(list), {}
    for partition, records in activity.items():
        store = Store()
        shard = Shard(SCORE_LEADS, partition, store)
        at = 0
        while at < len(records):
            outcome = shard.fold(records[at : at + 777])
            changes = shard.changes()
            store.write(changes.parts)
            at += outcome.applied
            for out in (*outcome.outputs, *changes.outputs):
                if out.topic == LEAD_SCORES:
                    cards[out.key] = None if out.value is None else decode_statement(out.value)
                elif out.topic != EVENTS:
                    said[out.topic, out.key].append(decode_statement(out.value))
    return said, {key: card for key, card in cards.items() if card is not None}


def assert_equals_the_fold(url, log=None):
    """Statements, ledgers and rows equal the pure fold of the recorded order; each statement once."""
    log = log or EmbeddedLog(url)
    said, cards = refold(folded_activity(log))
    assert_statements(log, said)
    with psycopg.connect(url) as connection:
        assert_rows(connection, said, cards)
        holders = assert_facts(connection, log)
    assert_each_is_held_once(holders, cards)
    return cards


def assert_statements(log, said):
    ids = Counter()
    for topic in (SCORE_CHANGED, LEAD_CHANGES, SESSION_SCORES):
        recorded = defaultdict(list)
        for records in log.read(topic).values():
            for record in records:
                recorded[topic, record.key].append(decode_statement(record.value))
        expected = {key: rows for key, rows in said.items() if key[0] == topic}
        assert recorded.keys() == expected.keys()
        for key, rows in expected.items():
            assert recorded[key] == rows, key
            ids.update(row.statement_id for row in rows)
        if topic == SCORE_CHANGED:
            assert_unbroken(recorded)
    assert not [name for name, count in ids.items() if count > 1], "a statement was made twice"


def assert_unbroken(changes):
    """Each change of a lead's score by a model begins where the one before it ended."""
    last = {}
    for rows in changes.values():
        for row in rows:
            place = row.tenant, row.lead_id, row.model
            assert row.previous == last.get(place, 0.0), row
            last[place] = row.total


def assert_rows(connection, said, cards):
    leads = {
        f"{tenant}/l/{lead}": row
        for tenant, lead, *row in connection.execute(
            "select tenant, lead_id, identified, stage, identities, counts, fields, redirect from live.leads"
        )
    }
    assert leads == {
        key: [c.identified, c.stage, c.identities, c.counts, msgspec.to_builtins(c.fields), c.redirect]
        for key, c in cards.items()
    }
    scores = {
        (f"{tenant}/l/{lead}", model): (round(total * 1_000_000), bands)
        for tenant, lead, model, total, bands in connection.execute(
            """select l.tenant, l.lead_id, s.model, s.total, s.bands
               from live.lead_scores s join live.leads l using (lead_key)"""
        )
    }
    assert scores == {
        (key, model): (round(score.total * 1e6), score.bands)
        for key, card in cards.items()
        for model, score in card.scores.items()
    }
    changes = [s for rows in said.values() for s in rows if isinstance(s, say.ScoreChanged)]
    sums = Counter()
    for statement in changes:
        sums[f"{statement.tenant}/l/{statement.lead_id}", statement.model] += sum(
            round(line.points * 1e6) for line in statement.lines
        )
    assert {key: sums[key] for key in scores} == {key: total for key, (total, _) in scores.items()}
    (rows,) = connection.execute("select count(*) from live.score_history").fetchone()
    assert rows == len(changes) == len({s.statement_id for s in changes})


def counting_events(log):
    """(key, id) of every event that must count."""
    return {
        (key_of(event), event.event_id)
        for records in log.read(EVENTS).values()
        for event in (decode_source(record.value) for record in records)
        if isinstance(event, Event) and event.bot is None
    }


def assert_counted_once(log, unique):
    """Each event that counts, under one identity; returns who has each identity: (epoch, lead)."""
    holders = {}
    counted = set()
    for records in log.read(LEAD_ACTIVITY).values():
        for record in records:
            said = decode_activity(record.value)
            if isinstance(said, IdentityAttached) and said.epoch > holders.get(said.identity, (0, ""))[0]:
                holders[said.identity] = (said.epoch, said.lead_id)
            if isinstance(said, IdentityAttached | IdentityDelta) and said.event_id:
                assert (said.identity, said.event_id) not in counted, "an event counted twice"
                counted.add((said.identity, said.event_id))
    assert len(counted) == len(unique)
    return holders


def assert_facts(connection, log):
    """Every event that counts is one engagement, under the identity that holds it now."""
    unique = counting_events(log)
    (facts,) = connection.execute("select count(*) from live.engagement_history").fetchone()
    assert facts == len(unique)
    holders = assert_counted_once(log, unique)
    rows = {
        identity: (epoch, lead)
        for identity, epoch, lead in connection.execute(
            "select identity, epoch, lead_id from live.identities"
        )
    }
    assert rows == holders
    return holders


def assert_each_is_held_once(holders, cards):
    """Every move has ended: who is behind a key is with the lead that the key says, and with no other."""
    held = Counter(
        lead_key(identity.partition("/")[0], lead_id) for identity, (_, lead_id) in holders.items()
    )
    held_by_lead = Counter({key: card.identities for key, card in cards.items()})
    assert +held_by_lead == held, (held_by_lead - held, held - held_by_lead)


def digest(url, schema="live"):
    """One figure per table: equal tables have equal rows, in whatever order they stand. The analytics of leads whose
    facts changed are computed first, whatever a kill left of them.
    """
    with psycopg.connect(url) as connection:
        compute_every_stale_lead(connection, analytics_settings, schema)
        connection.commit()
        tables = [
            name
            for (name,) in connection.execute(
                "select table_name from information_schema.tables where table_schema = %s and table_type = 'BASE TABLE'",
                (schema,),
            )
        ]
        return {
            name: connection.execute(
                psycopg.sql.SQL(
                    "select count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint::numeric), 0) from {} t"
                ).format(psycopg.sql.Identifier(schema, name))
            ).fetchone()
            for name in sorted(tables)
            if name != stale_leads.name  # a worker's queue
        }
