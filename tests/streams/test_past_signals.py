"""A signal that is new counts what happened before: as in a store that had it from the first event."""

from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_histories import history, specs

from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import encode_source, key_of
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.features import encode_features
from scoring.models.model import compile_model
from streams.replay import Replay
from streams.track_sessions.past_signals import NewSignals, past_counts

TEXT = """model = "watched"
about = "Counts what nobody counted."
[signals]
views = { event = "page_viewed" }
pages = { event = "page_viewed", distinct = "url" }
bought = { event = "purchase_made" }
filled = { event = "form_submitted" }
came_back = { sequence = ["page_viewed", "page_viewed"], within = "1 h" }
asked_then_bought = { sequence = ["form_submitted", "purchase_made"], within = "7 days" }
[groups.g]
rules = [
  { name = "Views", each = "views", points = 2 },
  { name = "Pages", each = "pages", points = 3 },
  { name = "Bought", each = "bought", points = 5 },
  { name = "Filled", each = "filled", points = 7 },
  { name = "Came back", each = "came_back", points = 11 },
  { name = "Asked, then bought", each = "asked_then_bought", points = 13 },
]
"""
SIGNALS = tuple(sorted({signal.stored for signal in compile_model(TEXT).signals}))


def publication():
    return publication_records(
        ModelPublished(
            tenant=EVERY_TENANT, recorded_at=moment(0), model="watched", version=1, text=TEXT, folding=1
        )
    )


class Store:
    """A log of one partition, and what its folds made of it."""

    def __init__(self, genesis=()):
        self.events = [(out.key, out.value) for out in genesis if out.topic == EVENTS]
        self.replay = Replay(genesis, on_output=self._written)

    def _written(self, out):
        if out.topic == EVENTS:
            self.events.append((out.key, out.value))

    def append(self, records):
        self.events += [(out.key, out.value) for out in records if out.topic == EVENTS]
        self.replay.append(records)
        self.replay.fold_all()

    def produce(self, events):
        for event in events:
            self.append([Outgoing(EVENTS, key_of(event), encode_source(event))])

    def leads(self):
        return {
            lead.key: (
                encode_features(lead.features),
                {name: (e.total, e.vector) for name, e in lead.head.emitted.items()},
                lead.head.position.stage,
            )
            for lead in self.replay.leads()
            if lead.exists
        }


def counts(events):
    new = NewSignals(EVERY_TENANT, "watched", 1, TEXT, 1, SIGNALS)
    return list(past_counts(new, events, moment(0)))


@settings(max_examples=scaled(150), deadline=None)
@given(specs(), st.data())
def test_counting_earlier_events_gives_what_counting_from_the_first_event_gives(spec, data):
    events = history(spec)
    published_after = data.draw(st.integers(0, len(events)))
    counted_after = data.draw(st.integers(published_after, len(events)))
    always = Store(publication())
    always.produce(events)
    later = Store()
    later.produce(events[:published_after])
    before = list(later.events)
    later.append(publication())
    later.produce(events[published_after:counted_after])
    records = counts(before)
    killed_after = data.draw(st.integers(0, len(records)))
    later.append(records[:killed_after])
    later.append(counts(before))  # a step that was killed is done again, from its beginning
    later.produce(events[counted_after:])
    assert later.leads() == always.leads()
