"""Whose e-mail or phone it is: decided once, at the door, and recorded in the event as its `lead_id`.

A visitor who gives an address that one known lead has, is that lead; one that nobody has makes an
anonymous visitor a lead of its own, under an id that follows from the address. Pure but for counting and the
question that is handed in; it knows no projection. In doubt nobody is joined: joining strangers is worse
than knowing one person twice.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from msgspec import structs

from gateway import metrics
from gateway.door.addresses import EMAIL, PHONE, persons_email, persons_phone
from gateway.door.pace import Steps, paced
from schemas.envelope import Event
from schemas.events import ContactShared, FormSubmitted, ProfileUpdated, QuestionAnswered

IDENTIFY_BY: Final = (EMAIL, PHONE)
"""What leads can be looked up by, in the order in which they are asked."""
RESOLVED_BY: Final = "resolved_by"
"""Where an event says by what its lead was found."""
SHARED_BY: Final = 20
"""What more leads of a request than these have in common tells nobody apart."""
MADE: Final = "c-"
"""What the ids of leads begin with that were made from an address."""


class AddressQuery(NamedTuple):
    """Who is the visitor who has given these?"""

    tenant: str
    visitor_id: str
    email: str | None
    phone: str | None


class AddressMatches(NamedTuple):
    """What is known of that: `home` is the known lead that the visitor said to be, `owner` who that lead
    is by now. A phone counts for the leads that have no other e-mail than the one given.
    """

    home: str | None = None
    owner: str | None = None
    by_email: tuple[str, ...] = ()
    by_phone: tuple[str, ...] = ()


Resolve = Callable[[Sequence[AddressQuery]], Awaitable[Sequence[AddressMatches | None]]]
"""Answers in the order of the questions; None: not known just now. It never raises, and never takes long."""


class Decided(NamedTuple):
    lead_id: str
    by: str


def made_id(tenant: str, kind: str, address: str) -> str:
    """The same wherever the address is given first, so that two devices become one lead."""
    return MADE + blake2b(f"{tenant}/{kind}/{address}".encode(), digest_size=10).hexdigest()


def decide(asked: AddressQuery, known: AddressMatches) -> Decided | None:
    """The lead that the visitor is; None: whom the visitor was before."""
    for kind, leads in ((EMAIL, known.by_email), (PHONE, known.by_phone)):
        if (lead_id := _the_one(leads)) is not None:
            return Decided(known.home if known.home and lead_id == known.owner else lead_id, kind)
    if known.by_email or known.by_phone or known.home is not None:
        return None
    if asked.email is not None:
        return Decided(made_id(asked.tenant, EMAIL, asked.email), EMAIL)
    if asked.phone is not None:
        return Decided(made_id(asked.tenant, PHONE, asked.phone), PHONE)
    return None


def _the_one(leads: Sequence[str]) -> str | None:
    """The only one; a lead that others have named goes before those that were made from an address."""
    named = [lead_id for lead_id in leads if not lead_id.startswith(MADE)]
    found = named or leads
    return found[0] if len(found) == 1 else None


async def resolved(
    events: Sequence[Event], resolve: Resolve, *, by: Sequence[str] = IDENTIFY_BY, region: str | None = None
) -> list[Event]:
    """The events of one request, in order, with the leads that their visitors turn out to be.

    Each sees what those before it have decided.
    """
    given = await paced(_all_given(events, by, region))
    asked = [each for event, each in zip(events, given, strict=True) if each and event.lead_id is None]
    if not asked:
        return list(events)
    known = await resolve(asked)
    missing = sum(each is None for each in known)
    metrics.RESOLVED.labels("answered").inc(len(known) - missing)
    metrics.RESOLVED.labels("unanswered").inc(missing)
    return await paced(_all_decided(events, given, known))


def _all_given(
    events: Sequence[Event], by: Sequence[str], region: str | None
) -> Steps[list[AddressQuery | None]]:
    given = []
    for event in events:
        given.append(_given(event, by, region))
        yield
    return given


def _all_decided(
    events: Sequence[Event], given: Sequence[AddressQuery | None], known: Sequence[AddressMatches | None]
) -> Steps[list[Event]]:
    answers = iter(known)
    request, decided = _Request(), []
    for event, each in zip(events, given, strict=True):
        decided.append(request.take(event, each, answers))
        yield
    return decided


class _Request:
    """What the events of a request have said so far."""

    def __init__(self) -> None:
        self._homes: dict[tuple[str, str], str] = {}
        self._leads: dict[tuple[str, str, str], dict[str, str | None]] = {}
        """Tenant, kind and address -> leads that gave it, each with the e-mail given beside."""

    def take(
        self, event: Event, given: AddressQuery | None, answers: Iterator[AddressMatches | None]
    ) -> Event:
        if given and event.lead_id is None and (known := next(answers)) is not None:
            decided = decide(given, self._with_own(given, known))
            if decided is not None:
                extra = {**(event.extra or {}), RESOLVED_BY: decided.by}
                event = structs.replace(event, lead_id=decided.lead_id, extra=extra)
        self._note(event, given)
        return event

    def _with_own(self, asked: AddressQuery, known: AddressMatches) -> AddressMatches:
        home = self._homes.get((asked.tenant, asked.visitor_id))
        if home is not None:
            known = known._replace(home=home, owner=home)
        emails = self._leads.get((asked.tenant, EMAIL, asked.email or ""), {})
        phones = self._leads.get((asked.tenant, PHONE, asked.phone or ""), {})
        fitting = [lead for lead, email in phones.items() if asked.email in {None, email} or email is None]
        return known._replace(
            by_email=tuple({*known.by_email, *emails}), by_phone=tuple({*known.by_phone, *fitting})
        )

    def _note(self, event: Event, given: AddressQuery | None) -> None:
        lead_id = event.lead_id
        if event.visitor_id is not None:
            visitor = (event.tenant, event.visitor_id)
            if lead_id is None:
                lead_id = self._homes.get(visitor)
            elif event.bot is None:
                self._homes[visitor] = lead_id
        if given is None or lead_id is None:
            return
        for kind, address in ((EMAIL, given.email), (PHONE, given.phone)):
            if address is not None:
                leads = self._leads.setdefault((given.tenant, kind, address), {})
                if lead_id in leads or len(leads) < SHARED_BY:
                    leads[lead_id] = given.email


def _given(event: Event, by: Sequence[str], region: str | None) -> AddressQuery | None:
    """The addresses by which the event tells its person; None: it tells none. A crawler is nobody."""
    if event.bot is not None:
        return None
    email, phone = _addresses(event)
    email = persons_email(email) if isinstance(email, str) and EMAIL in by else None
    phone = persons_phone(phone, region) if isinstance(phone, str) and PHONE in by else None
    if email is None and phone is None:
        return None
    return AddressQuery(event.tenant, event.visitor_id or "", email, phone)


def _addresses(event: Event) -> tuple[object, object]:
    """What the event puts into the lead's e-mail and phone."""
    match event:
        case ContactShared():
            return event.email, event.phone
        case FormSubmitted() | ProfileUpdated() if event.fields:
            return event.fields.get(EMAIL), event.fields.get(PHONE)
        case QuestionAnswered(profile_field=kind) if kind in IDENTIFY_BY:
            return (event.text, None) if kind == EMAIL else (None, event.text)
        case _:
            return None, None
