"""A new campaign begins a session: campaigns are compared whole, however long their names are."""

import pytest
from msgspec import msgpack
from stream_stories import MINUTE

from schemas.activity import IdentityAttached, IdentityDelta
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import decode_activity, encode_source, key_of
from schemas.envelope import Campaign, Context
from schemas.events import PageViewed
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY
from scoring.features.sessions import KeptEvents, SessionEvent
from scoring.models.model import built_in_models
from streams.replay import Replay
from streams.track_sessions.web_sessions import (
    LONGEST_CAMPAIGN_KEY_BYTES,
    MOST_CAMPAIGN_NAME_BYTES,
    campaign_key,
    forget_campaigns,
    remember_campaign,
)

START = 1_900_000_000_000
SAME = "spring-sale-" * 8
"""96 bytes."""


def viewed(nth, campaign):
    at = moment(START + nth * MINUTE)
    context = Context(campaign=campaign) if campaign else None
    return PageViewed(event_id=f"e{nth}", occurred_at=at, recorded_at=at, visitor_id="v", context=context)


def tracked(*campaigns):
    """The sessions of a visitor whose pages have these campaigns: (pages, campaign as shown)."""
    outputs = []
    text = built_in_models()["web_session"]
    model = ModelPublished(
        tenant=EVERY_TENANT, recorded_at=moment(0), model="web_session", version=1, text=text
    )
    replay = Replay(publication_records(model), on_output=outputs.append)
    for nth, campaign in enumerate(campaigns):
        seen = viewed(nth, campaign)
        replay.append([Outgoing(EVENTS, key_of(seen), encode_source(seen))])
        replay.fold_all()
    sessions = {}
    for output in outputs:
        if output.topic == LEAD_ACTIVITY:
            activity = decode_activity(output.value)
            if isinstance(activity, IdentityAttached | IdentityDelta):
                sessions |= {put.session_id: (put.pages, put.campaign) for put in activity.sessions}
    return list(sessions.values())


def named(name, source="g", medium="cpc"):
    return Campaign(source=source, medium=medium, name=name)


def test_campaigns_alike_in_their_first_64_bytes_are_two():
    assert tracked(named(SAME + "a"), named(SAME + "b")) == [(1, f"g/cpc/{SAME}a"), (1, f"g/cpc/{SAME}b")]


@pytest.mark.parametrize("length", [57, 58, 59, 64, 200, 512])
def test_a_campaign_is_one_with_itself_and_another_with_one_letter_more(length):
    name = "x" * (length - 1)
    assert tracked(named(name), named(name), named(name + "y")) == [
        (2, f"g/cpc/{name}"),
        (1, f"g/cpc/{name}y"),
    ]


def test_letters_of_several_bytes_are_not_cut():
    assert tracked(named("ش" * 80 + "a"), named("ش" * 80 + "b")) == [
        (1, "g/cpc/" + "ش" * 80 + "a"),
        (1, "g/cpc/" + "ش" * 80 + "b"),
    ]


def test_the_whole_name_is_shown_by_later_events_too():
    assert tracked(named(SAME), None, named(SAME)) == [(3, f"g/cpc/{SAME}")]


@pytest.mark.parametrize("empty", [None, Campaign(), Campaign(source=" ", medium="", name="\t")])
def test_an_empty_campaign_never_splits(empty):
    assert tracked(named("spring"), empty, named("spring"), named("summer"), empty) == [
        (3, "g/cpc/spring"),
        (2, "g/cpc/summer"),
    ]


def test_the_id_tells_campaigns_without_a_name_apart():
    assert tracked(
        Campaign(source="g", id="1"), Campaign(source="g", id="1"), Campaign(source="g", id="2")
    ) == [
        (2, "g//1"),
        (1, "g//2"),
    ]


def test_a_short_name_is_its_own_key():
    """As in sessions that earlier versions recorded."""
    assert campaign_key("g/cpc/spring") == "g/cpc/spring"
    assert len(campaign_key("x" * 5_000)) <= LONGEST_CAMPAIGN_KEY_BYTES


def test_the_names_that_a_visitor_keeps_are_bounded():
    names = {}
    for nth in range(100):
        remember_campaign(names, f"{nth}" * 500)
    assert sum(map(len, names.values())) <= MOST_CAMPAIGN_NAME_BYTES


def test_names_are_forgotten_with_their_events():
    long = campaign_key(SAME)
    kept = KeptEvents([SessionEvent(1, "e", 1, campaign=long)], campaigns={long: SAME, "#other": "gone"})
    forget_campaigns(kept)
    assert kept.campaigns == {long: SAME}


def test_what_earlier_versions_kept_can_be_read():
    written = msgpack.encode([[[1, "e", 1, 0, 1, 0, 0, "g/cpc/spring", ""]], ["s"], 3])
    kept = msgpack.decode(written, type=KeptEvents)
    assert (kept.events[0].campaign, kept.revision, kept.campaigns) == ("g/cpc/spring", 3, {})
