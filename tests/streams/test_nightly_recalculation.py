"""Recalculating every lead every night changes nothing that would not have been said anyway.

The guides recalculate at two in the morning; here time concludes itself. A simulated company's
recorded activity is folded twice, with a timer for every lead in every night and with none, and read
at later moments.
"""

from datetime import UTC, datetime
from functools import cache

import msgspec
import pytest
from stream_simulator import Pipeline, refold
from stream_stories import DAY, HOUR, MINUTE, SHIPPED

from leadstream.simulation.simulate import simulated_events
from schemas.activity import TimePassed
from schemas.decode import decode_activity, encode_activity
from schemas.moment import millis
from schemas.record import Record
from schemas.topics import LEAD_ACTIVITY, PARTITION_WIDE_KEY
from scoring.features.calendar import calendar
from scoring.models.model import Subject, compile_model, rounded_points, score_lead

UNTIL = datetime(2026, 3, 1, tzinfo=UTC)
END = millis(UNTIL)
DAYS, LEADS = 40, 6
NIGHTS = range(END - DAYS * DAY + 2 * HOUR, END, DAY)
MODELS = {name: compile_model(text) for name, text in SHIPPED}

MOMENTS = {
    "as it ends": END,
    "a day later": END + DAY,
    "amid the next month": END + 17 * DAY + 13 * HOUR + 37 * MINUTE,
    "when all has cooled down": END + 400 * DAY,
}


@cache
def company(seed):
    """Both folds over everything that happened, without a single timer."""
    pipeline = Pipeline(SHIPPED).fold_all()
    for event in simulated_events(seed, LEADS, DAYS, UNTIL):
        pipeline.produce(event)
    return pipeline.fold_all()


def timer(key, at):
    tenant, _, lead = key.split("/", 2)
    return Record(LEAD_ACTIVITY, 0, 0, key, encode_activity(TimePassed(tenant, lead, at)))


def until(last, *, every_night):
    """An edit of a recorded partition: timers in every night or in none, and for everybody at the end."""
    nights = range(NIGHTS.start, last, DAY) if every_night else ()

    def edit(log):
        waiting, born, edited = list(nights), {}, []
        for record in log:
            said = decode_activity(record.value)
            while waiting and record.key != PARTITION_WIDE_KEY and waiting[0] <= said.recorded_at:
                night = waiting.pop(0)
                edited += [timer(key, night) for key in born]
            edited.append(record)
            if record.key != PARTITION_WIDE_KEY:
                born[record.key] = None
        edited += [timer(key, night) for night in waiting for key in born]
        return [*edited, *(timer(key, last) for key in born)]

    return edit


def ledgers(pipeline):
    """By lead everything that was said; ids count positions, and timers take positions."""
    by_lead = {}
    for topic, statement in pipeline.said:
        said = msgspec.to_builtins(statement) | {"topic": topic, "statement_id": ""}
        by_lead.setdefault(statement.lead_id, []).append(said)
    return by_lead


@pytest.mark.parametrize("last", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_night_or_never_the_ledger_is_the_same_at_any_later_moment(seed, last):
    nightly = refold(company(seed), 1, crash=0, burst=10_000, edit=until(last, every_night=True))
    never = refold(company(seed), 1, crash=0, burst=10_000, edit=until(last, every_night=False))
    assert ledgers(nightly) == ledgers(never)
    assert len(nightly.said) > 200
    for key, card in nightly.cards.items():
        assert (card and card.scores) == (never.cards[key] and never.cards[key].scores)


@pytest.mark.parametrize("last", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("every_night", [True, False], ids=["every night", "never"])
def test_the_stored_rounded_total_is_what_a_recalculation_gives(every_night, last):
    pipeline = refold(company(1), 1, crash=0, burst=10_000, edit=until(last, every_night=every_night))
    compared = 0
    for lead in pipeline.leads().values():
        assert lead.head.clock == last
        subject = Subject(lead.features, lead.head.position.stage)
        for name, said in lead.head.emitted.items():
            now = score_lead(MODELS[name], subject, last, calendar("UTC"), 30 * MINUTE)
            assert (rounded_points(said.total), said.bands) == (rounded_points(now.total), now.bands)
            compared += 1
    assert compared >= len(MODELS) * LEADS


def test_what_a_night_finds_was_said_at_the_moment_it_happened_and_not_at_night():
    """Of every statement that time caused, the moment is its due and none is two in the morning."""
    nightly = refold(company(1), 1, crash=0, burst=10_000, edit=until(END, every_night=True))
    due = [s for _, s in nightly.said if s.caused_by.startswith("due:")]
    assert len(due) > 20
    assert not [s for s in due if s.caused_by != f"due:{millis(s.at)}"]
    assert not [s for s in due if millis(s.at) in NIGHTS]
