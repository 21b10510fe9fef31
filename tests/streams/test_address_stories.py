"""People who are known by an address: the door decides, the folds follow, and the next decision sees it.

What the door is told here comes from the same cards and visitors that a reader would find in the read models.
"""

import asyncio
import itertools

from msgspec import msgpack
from stream_stories import DAY, HOUR, MINUTE, Story, happened

from gateway.door.resolving import MADE_LEAD_ID_PREFIX, AddressMatches, leads_of_address, with_resolved_leads
from schemas.topics import EVENTS, visitor_key
from scoring.features.identity import MOST_IDENTITIES, Visitor, is_anonymous

EMILY, FRED = "emily@acme.io", "fred@acme.io"
numbers = itertools.count()


class House:
    """A story whose events pass the door, one request at a time or several in one."""

    def __init__(self):
        self.story = Story()
        self.now = 0

    def when(self, *events):
        for event in asyncio.run(with_resolved_leads(events, self._known)):
            self.story.when(event)
        return self

    async def _known(self, asked):
        return [self._one(each) for each in asked]

    def _one(self, asked):
        cards = [c for c in self.story.pipeline.cards.values() if c and c.identified and c.identities]
        return AddressMatches(
            *self._first_person(visitor_key(asked.tenant, asked.visitor_id)),
            *(self._leads_with(kind, getattr(asked, kind), cards) for kind in ("email", "phone")),
        )

    def _leads_with(self, kind, address, cards):
        own = [c.lead_id for c in cards if address and c.fields.get(kind) == address]
        return leads_of_address(own, [c.lead_id for c in cards if address in c.other_addresses])

    def _first_person(self, key):
        for store in self.story.pipeline.stores[EVENTS]:
            if key in store.parts:
                first = msgpack.decode(store.parts[key]["head"][1:], type=Visitor).segments[0]
                return (None, None) if is_anonymous(first.home) else (first.home, first.owner)
        return None, None

    def lead_with(self, email):
        """Of all cards, the one that has this e-mail."""
        (card,) = [c for c in self.story.pipeline.cards.values() if c and c.fields.get("email") == email]
        return card

    def pages(self, email):
        return self.lead_with(email).counts.get("page_viewed", 0)

    def leads(self):
        return {c.lead_id for c in self.story.pipeline.cards.values() if c and c.identities}

    def page(self, visitor, **fields):
        return self._happened("page_viewed", visitor_id=visitor, **fields)

    def gives(self, visitor, email):
        return self.shares(visitor, email=email)

    def shares(self, visitor, **addresses):
        return self._happened("contact_shared", visitor_id=visitor, **addresses)

    def crm(self, kind, lead, **fields):
        return self._happened(kind, lead_id=lead, source="crm", **fields)

    def _happened(self, kind, **fields):
        self.now += MINUTE
        return happened(kind, f"e{next(numbers)}", self.now, **fields)


def test_two_people_at_one_tablet_stay_apart_and_one_at_home_is_joined():
    house = House()
    for visitor, email in (("laptop-e", EMILY), ("laptop-f", FRED)):
        house.when(house.page(visitor), house.gives(visitor, email))
    # At the stand: two pages of Emily's, three of Fred's.
    house.when(house.page("tablet")).when(house.gives("tablet", EMILY), house.page("tablet"))
    house.when(house.gives("tablet", FRED))
    house.when(*(house.page("tablet") for _ in range(3)))
    assert (house.pages(EMILY), house.pages(FRED)) == (1 + 2, 1 + 3)
    assert house.lead_with(EMILY).identities == house.lead_with(FRED).identities == 2
    # She comes back to the tablet.
    house.when(house.gives("tablet", EMILY), house.page("tablet"))
    assert (house.pages(EMILY), house.pages(FRED)) == (4, 4)
    # And at home, on her phone.
    house.when(house.page("phone"), house.page("phone"))
    assert "anon:phone" in house.leads()
    house.when(house.gives("phone", EMILY))
    assert (house.pages(EMILY), house.pages(FRED)) == (6, 4)
    assert house.lead_with(EMILY).identities == 3
    assert len(house.leads()) == 2


def test_two_devices_that_give_one_new_address_at_the_same_time_are_one_lead():
    house = House()
    house.when(house.page("phone"), house.page("laptop"))
    house.when(house.gives("phone", EMILY), house.gives("laptop", EMILY))
    assert house.pages(EMILY) == 2
    (lead,) = house.leads()
    assert lead.startswith(MADE_LEAD_ID_PREFIX)


def test_a_second_address_does_not_part_a_person_and_finds_them_from_then_on():
    house = House()
    house.when(house.gives("laptop", EMILY)).when(house.gives("laptop", "emily@home.io"))
    house.when(house.page("phone")).when(house.gives("phone", "emily@home.io"))
    assert house.pages("emily@home.io") == 1
    assert len(house.leads()) == 1


def test_an_address_of_before_still_leads_to_the_lead_that_was_made_from_it():
    house = House()
    house.when(house.gives("laptop", EMILY)).when(house.gives("laptop", "emily@home.io"))
    house.when(house.page("tablet")).when(house.gives("tablet", EMILY))
    assert len(house.leads()) == 1


def test_who_was_merged_away_is_not_found_and_the_lead_that_stays_is():
    house = House()
    house.when(house.gives("laptop", EMILY), house.crm("profile_updated", "crm-1", fields={"phone": "1"}))
    made = house.lead_with(EMILY).lead_id
    house.when(house.crm("leads_merged", made, into="crm-1"))
    house.when(house.page("phone")).when(house.gives("phone", EMILY), house.page("phone"))
    assert house.leads() == {"crm-1"}
    assert house.pages(EMILY) == 2
    # The laptop was hers before: it comes back with her when the merge is undone.
    house.when(house.gives("laptop", EMILY), house.page("laptop"))
    house.when(house.crm("merge_undone", made))
    assert house.story.card(made).counts["page_viewed"] == 1
    assert house.story.card("crm-1").counts["page_viewed"] == 2


ANOTHER = "emily@home.io"
PHONE = "+4915112345678"


def addresses_of(card):
    return {*card.other_addresses, *(card.fields[name] for name in ("email", "phone") if name in card.fields)}


def merged_house():
    """Emily as the CRM has her twice, each record with an address; the older one was merged into the newer."""
    house = House()
    house.when(
        house.crm("profile_updated", "crm-old", fields={"email": EMILY, "phone": PHONE}),
        house.crm("profile_updated", "crm-new", fields={"email": ANOTHER}),
    )
    return house.when(house.crm("leads_merged", "crm-old", into="crm-new"))


def test_whoever_gives_an_address_of_a_merged_lead_is_the_lead_that_stayed():
    house = merged_house()
    house.when(house.page("by-mail")).when(house.gives("by-mail", EMILY))
    house.when(house.page("by-phone")).when(house.shares("by-phone", phone=PHONE))
    house.when(house.page("by-both")).when(house.shares("by-both", email=EMILY, phone=PHONE))
    house.when(house.crm("email_opened", "crm-old")).when(house.page("log-in", lead_id="crm-old"))
    assert house.leads() == {"crm-new"}
    card = house.story.card("crm-new")
    assert (card.counts["page_viewed"], card.counts["email_opened"]) == (4, 1)
    assert addresses_of(card) == {EMILY, ANOTHER, PHONE}


def test_a_chain_of_merges_leads_to_its_end_and_an_undone_one_back():
    house = merged_house()
    house.when(house.crm("profile_updated", "crm-last", fields={"email": FRED}))
    house.when(house.crm("leads_merged", "crm-new", into="crm-last"))
    house.when(house.page("a")).when(house.gives("a", EMILY)).when(house.page("b")).when(
        house.gives("b", ANOTHER)
    )
    assert house.leads() == {"crm-last"}
    assert addresses_of(house.story.card("crm-last")) == {EMILY, ANOTHER, FRED, PHONE}
    house.when(house.crm("merge_undone", "crm-old"))
    house.when(house.page("c")).when(house.gives("c", EMILY))
    assert house.leads() == {"crm-last", "crm-old"}
    assert house.story.card("crm-old").counts["page_viewed"] == 1
    assert addresses_of(house.story.card("crm-old")) == {EMILY, PHONE}
    assert addresses_of(house.story.card("crm-last")) == {
        EMILY,
        ANOTHER,
        FRED,
    }  # device a gave hers to the last one


def test_a_lead_that_shows_an_address_is_nearer_than_one_into_which_it_came_by_a_merge():
    house = merged_house()
    house.when(house.crm("profile_updated", "crm-3", fields={"email": EMILY}))
    house.when(house.page("a")).when(house.gives("a", EMILY))
    assert house.story.card("crm-3").counts["page_viewed"] == 1


def test_the_fifty_first_device_parks_in_a_lead_of_its_own_and_goes_on_there():
    house = House()
    for number in range(MOST_IDENTITIES + 1):
        house.when(house.gives(f"device-{number}", EMILY))
    (full,) = [c for c in house.story.pipeline.cards.values() if c and c.identities == MOST_IDENTITIES]
    assert full.lead_id.startswith(MADE_LEAD_ID_PREFIX)
    (parked,) = house.leads() - {full.lead_id}
    assert is_anonymous(parked)
    last = f"device-{MOST_IDENTITIES}"
    house.when(house.gives(last, EMILY), house.page(last))
    assert house.story.card(parked).counts["page_viewed"] == 1
    assert house.story.card(full.lead_id).identities == MOST_IDENTITIES


def test_what_was_decided_is_folded_and_never_looked_up_again():
    """Recorded when nobody had the address: a lead who has it since takes nothing away."""
    house = House()
    house.when(house.gives("laptop", EMILY))
    house.when(house.crm("profile_updated", "crm-1", fields={"email": EMILY}))
    house.now += DAY + HOUR
    house.when(house.page("laptop"))
    assert house.story.card("crm-1").counts.get("page_viewed", 0) == 0
