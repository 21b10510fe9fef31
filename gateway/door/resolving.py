"""To which lead an e-mail or phone belongs: decided once, at the door, and recorded in the event as its `lead_id`.

An address that exactly one lead has identifies the visitor as that lead. An address that no lead has makes an
anonymous visitor a lead, under an id derived from the address. In doubt nobody is joined: joining two strangers
is worse than having one person twice. Pure but for counting and `resolve`, which the caller passes in; it knows
no projection.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from msgspec import structs

from gateway import metrics
from gateway.door.addresses import EMAIL, PHONE, email_of_one_person, phone_of_one_person
from gateway.door.pace import PacedSteps, run_paced
from schemas.envelope import Event
from scoring.features.identity import anonymous_lead_id
from scoring.features.signals import profile_fields_of
from scoring.features.unique_identifiers import Identifiers, differing_field, identifiers_in

IDENTIFY_BY: Final = (EMAIL, PHONE)
"""What identifies leads, in the order in which it is tried."""
RESOLVED_BY_FIELD: Final = "resolved_by"
"""The field of an event that names what its lead was identified by."""
KEPT_APART_FROM_FIELD: Final = "kept_apart_from"
"""The field of an event that names the lead that has its address, and that its person is not."""
KEPT_APART_BY_FIELD: Final = "kept_apart_by"
"""The unique profile field in which the two differ."""
MOST_LEADS_OF_ADDRESS: Final = 20
"""An address that more leads of one request share identifies nobody."""
MADE_LEAD_ID_PREFIX: Final = "c-"
"""What the ids of leads begin with that were made from an address."""


class AddressQuery(NamedTuple):
    """The addresses that a visitor has given: to which lead do they belong?"""

    tenant: str
    visitor_id: str
    email: str | None
    phone: str | None


class AddressMatches(NamedTuple):
    """What the store has of them: `home_lead` is the known lead that the visitor claims to be, `owner` the lead
    that it has been merged into by now. A phone counts for the leads that have no other e-mail than the one given.
    """

    home_lead: str | None = None
    owner: str | None = None
    by_email: tuple[str, ...] = ()
    by_phone: tuple[str, ...] = ()


LookUpAddresses = Callable[[Sequence[AddressQuery]], Awaitable[Sequence[AddressMatches | None]]]
"""Matches in the order of the queries; None: unavailable. It never raises, and never takes long."""


def leads_of_address(own: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """The leads that an address may be of. `own`: it is the address that the lead shows; `others`: only an identity of the lead has
    it, such as one of a lead that was merged into it. A named lead that shows the address is the nearer one.
    """
    return tuple(own if any(not is_made_from_address(each) for each in own) else (*own, *others))


def is_made_from_address(lead_id: str) -> bool:
    return lead_id.startswith(MADE_LEAD_ID_PREFIX)


LookUpIdentifiers = Callable[[str, Sequence[str], Sequence[str]], Awaitable[Mapping[str, Identifiers] | None]]
"""(tenant, lead ids, profile fields) -> of each lead, or of the one that it was merged into, its values. None: unavailable. It never
raises, and never takes long.
"""


class UniqueFields(NamedTuple):
    """The profile fields of which a person has one value, by tenant, and the port that looks up what leads have of them."""

    of_tenant: Mapping[str, Sequence[str]]
    look_up: LookUpIdentifiers


class KeptApart(NamedTuple):
    """The event's person has an address of this lead, and another value of this unique field."""

    lead_id: str
    field: str


class ResolvedLead(NamedTuple):
    lead_id: str
    by: str


def lead_id_of_address(tenant: str, kind: str, address: str) -> str:
    """The same id on every device, so that two devices become one lead."""
    return MADE_LEAD_ID_PREFIX + blake2b(f"{tenant}/{kind}/{address}".encode(), digest_size=10).hexdigest()


def resolve_lead(query: AddressQuery, matches: AddressMatches) -> ResolvedLead | None:
    """The lead that the visitor is; None: the same as before."""
    for kind, leads in ((EMAIL, matches.by_email), (PHONE, matches.by_phone)):
        if (lead_id := _only_lead(leads)) is not None:
            return ResolvedLead(
                matches.home_lead if matches.home_lead and lead_id == matches.owner else lead_id, kind
            )
    if matches.by_email or matches.by_phone or matches.home_lead is not None:
        return None
    if query.email is not None:
        return ResolvedLead(lead_id_of_address(query.tenant, EMAIL, query.email), EMAIL)
    if query.phone is not None:
        return ResolvedLead(lead_id_of_address(query.tenant, PHONE, query.phone), PHONE)
    return None


def _only_lead(leads: Sequence[str]) -> str | None:
    """The only one; a lead that others have named goes before those that were made from an address."""
    named = [lead_id for lead_id in leads if not is_made_from_address(lead_id)]
    candidates = named or leads
    return candidates[0] if len(candidates) == 1 else None


async def with_resolved_leads(
    events: Sequence[Event],
    resolve: LookUpAddresses,
    *,
    by: Sequence[str] = IDENTIFY_BY,
    region: str | None = None,
    unique: UniqueFields | None = None,
) -> list[Event]:
    """The events of one request, in order, with the leads that their visitors are.

    Each event sees the decisions about those before it. A lead with another value of a unique field than the event's person is not
    that person.
    """
    queries = await run_paced(_queries_of(events, by, region))
    open_queries = [
        each for event, each in zip(events, queries, strict=True) if each and event.lead_id is None
    ]
    if not open_queries:
        return list(events)
    matches = await resolve(open_queries)
    missing = sum(each is None for each in matches)
    metrics.ADDRESS_LOOKUPS.labels("answered").inc(len(matches) - missing)
    metrics.ADDRESS_LOOKUPS.labels("unanswered").inc(missing)
    decisions = _RequestLeads({} if unique is None else unique.of_tenant)
    if unique is not None:
        decisions.identifiers |= await _stored_identifiers(open_queries, matches, unique)
    return await run_paced(_events_with_leads(events, queries, matches, decisions))


async def _stored_identifiers(
    queries: Sequence[AddressQuery], matches: Sequence[AddressMatches | None], unique: UniqueFields
) -> dict[tuple[str, str], Identifiers]:
    """Of the leads that the queries are about: what the store has of their unique fields. If it does not answer, nothing."""
    stored: dict[tuple[str, str], Identifiers] = {}
    for tenant, fields in unique.of_tenant.items():
        leads = {
            lead_id
            for query, match in zip(queries, matches, strict=True)
            if query.tenant == tenant and match is not None
            for lead_id in (*match.by_email, *match.by_phone, anonymous_lead_id(query.visitor_id))
        }
        if fields and leads:
            answer = await unique.look_up(tenant, sorted(leads), fields)
            stored |= {(tenant, lead_id): values for lead_id, values in (answer or {}).items()}
    return stored


def _queries_of(
    events: Sequence[Event], by: Sequence[str], region: str | None
) -> PacedSteps[list[AddressQuery | None]]:
    queries = []
    for event in events:
        queries.append(query_of(event, by, region))
        yield
    return queries


def _events_with_leads(
    events: Sequence[Event],
    queries: Sequence[AddressQuery | None],
    matches: Sequence[AddressMatches | None],
    request: "_RequestLeads",
) -> PacedSteps[list[Event]]:
    answers, decided = iter(matches), []
    for event, each in zip(events, queries, strict=True):
        decided.append(request.take(event, each, answers))
        yield
    return decided


class _RequestLeads:
    """The leads and addresses of the events of one request so far."""

    def __init__(self, unique: Mapping[str, Sequence[str]]) -> None:
        self._unique = unique
        self.identifiers: dict[tuple[str, str], Identifiers] = {}
        """(tenant, lead) -> its values of unique fields."""
        self._home_leads: dict[tuple[str, str], str] = {}
        self._leads: dict[tuple[str, str, str], dict[str, str | None]] = {}
        """Tenant, kind and address -> leads that gave it, each with the e-mail given beside."""

    def take(
        self, event: Event, query: AddressQuery | None, answers: Iterator[AddressMatches | None]
    ) -> Event:
        if query and event.lead_id is None and (matches := next(answers)) is not None:
            event = self._decided(event, query, self._with_own(query, matches))
        self._note(event, query)
        return event

    def _decided(self, event: Event, query: AddressQuery, matches: AddressMatches) -> Event:
        kept_apart = self._kept_apart(event, query, matches)
        strangers = {each.lead_id for each in kept_apart}
        possible = matches._replace(
            by_email=tuple(each for each in matches.by_email if each not in strangers),
            by_phone=tuple(each for each in matches.by_phone if each not in strangers),
        )
        decided = resolve_lead(query, possible)
        if kept_apart:
            if not possible.by_email and not possible.by_phone:
                decided = None  # the address has an owner already, so no lead is named after it
            by = {KEPT_APART_FROM_FIELD: kept_apart[0].lead_id, KEPT_APART_BY_FIELD: kept_apart[0].field}
            event = structs.replace(event, extra={**(event.extra or {}), **by})
        if decided is None:
            return event
        extra = {**(event.extra or {}), RESOLVED_BY_FIELD: decided.by}
        return structs.replace(event, lead_id=decided.lead_id, extra=extra)

    def _kept_apart(self, event: Event, query: AddressQuery, matches: AddressMatches) -> list[KeptApart]:
        if not (unique := self._unique.get(query.tenant)):
            return []
        mine: Identifiers = identifiers_in(profile_fields_of(event), unique)
        if (
            matches.home_lead is None
        ):  # a visitor whom nobody knows: what it has said before is of the same person
            before = self.identifiers.get((query.tenant, anonymous_lead_id(query.visitor_id)), {})
            mine = {**before, **mine}
        candidates = dict.fromkeys((*matches.by_email, *matches.by_phone))
        fields = (
            (lead_id, differing_field(mine, self.identifiers.get((query.tenant, lead_id), {})))
            for lead_id in candidates
        )
        return [KeptApart(lead_id, name) for lead_id, name in fields if name is not None]

    def _with_own(self, query: AddressQuery, matches: AddressMatches) -> AddressMatches:
        home_lead = self._home_leads.get((query.tenant, query.visitor_id))
        if home_lead is not None:
            matches = matches._replace(home_lead=home_lead, owner=home_lead)
        emails = self._leads.get((query.tenant, EMAIL, query.email or ""), {})
        phones = self._leads.get((query.tenant, PHONE, query.phone or ""), {})
        fitting = [lead for lead, email in phones.items() if query.email in {None, email} or email is None]
        return matches._replace(
            by_email=tuple({*matches.by_email, *emails}), by_phone=tuple({*matches.by_phone, *fitting})
        )

    def _note(self, event: Event, query: AddressQuery | None) -> None:
        lead_id = event.lead_id
        if event.visitor_id is not None:
            visitor = (event.tenant, event.visitor_id)
            if lead_id is None:
                lead_id = self._home_leads.get(visitor)
            elif event.bot is None:
                self._home_leads[visitor] = lead_id
        if unique := self._unique.get(event.tenant):
            named = (event.tenant, lead_id or anonymous_lead_id(event.visitor_id or ""))
            stated = identifiers_in(profile_fields_of(event), unique)
            self.identifiers[named] = {**self.identifiers.get(named, {}), **stated}
        if query is None or lead_id is None:
            return
        for kind, address in ((EMAIL, query.email), (PHONE, query.phone)):
            if address is not None:
                leads = self._leads.setdefault((query.tenant, kind, address), {})
                if lead_id in leads or len(leads) < MOST_LEADS_OF_ADDRESS:
                    leads[lead_id] = query.email


def query_of(event: Event, by: Sequence[str], region: str | None) -> AddressQuery | None:
    """The addresses that identify the person of the event; None: it has none. A crawler is nobody."""
    if event.bot is not None:
        return None
    profile = profile_fields_of(event)
    email, phone = profile.get(EMAIL), profile.get(PHONE)
    email = email_of_one_person(email) if isinstance(email, str) and EMAIL in by else None
    phone = (
        phone_of_one_person(phone, region, event.source) if isinstance(phone, str) and PHONE in by else None
    )
    if email is None and phone is None:
        return None
    return AddressQuery(event.tenant, event.visitor_id or "", email, phone)
