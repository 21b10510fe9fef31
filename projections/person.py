"""A person in the read models: the lead, the leads merged with it, and everything that names them. It only reads."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, LiteralString

from msgspec import Struct, field
from sqlalchemy import Select, Text, any_, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from projections.connection import Connection
from projections.queries import sql_and_parameters
from projections.row_keys import hashed_key, lead_row_key
from projections.tables import leads
from schemas.topics import lead_key, visitor_key
from scoring.features.erased_people import PersonName, hash_of_name
from scoring.features.identity import (
    MOST_SEGMENTS,
    anonymous_lead_id,
    identity_id,
    is_anonymous,
    key_of_identity,
)

MOST_ROUNDS: Final = 50
"""Merges of merges that are followed."""

_REDIRECTS: LiteralString = """
  select lead_id, redirect from leads where tenant = %(tenant)s and redirect is not null
    and (lead_id = any(%(leads)s) or redirect = any(%(leads)s))
"""
_IDENTITIES: LiteralString = """
  select identity, lead_id from identities where tenant = %(tenant)s and (lead_id = any(%(leads)s) or home = any(%(leads)s))
"""
_FORMER_LEADS: LiteralString = (
    "select distinct lead_id from identity_history where identity_key = any(%(identity_keys)s)"
)
_SEGMENTS: LiteralString = "select identity from identities where identity_key = any(%(identity_keys)s)"
_EVERY_ADDRESS: LiteralString = """
  select tenant, lead_key, lead_id, 'email' as kind, email as value from leads where email is not null
  union all select tenant, lead_key, lead_id, 'phone', phone from leads where phone is not null
  union all
  select tenant, lead_key, lead_id, case when strpos(value, '@') > 0 then 'email' else 'phone' end, value
  from leads, jsonb_array_elements_text(other_addresses) as other (value) where other_addresses is not null
"""
_ADDRESSES: LiteralString = f"""
  with addresses as ({_EVERY_ADDRESS})
  select distinct kind, value from (
    select kind, value from addresses where lead_key = any(%(lead_keys)s)
    union all
    select kind, value from engagement_history, lateral (values
      ('email', details ->> 'email'), ('email', details -> 'fields' ->> 'email'),
      ('email', case when details ->> 'profile_field' = 'email' then details ->> 'text' end),
      ('phone', details ->> 'phone'), ('phone', details -> 'fields' ->> 'phone'),
      ('phone', case when details ->> 'profile_field' = 'phone' then details ->> 'text' end)) stated (kind, value)
    where identity_key = any(%(identity_keys)s)
      and type in ('contact_shared', 'form_submitted', 'profile_updated', 'question_answered')
  ) every where value <> ''
"""  # noqa: S608 - made of constants
_SHARED_ADDRESSES: LiteralString = f"""
  select distinct kind, value from ({_EVERY_ADDRESS}) as addresses
  where tenant = %(tenant)s and value = any(%(values)s) and lead_key <> all(%(lead_keys)s)
"""  # noqa: S608 - made of constants
_MERGED_INTO: LiteralString = """
  select i.identity from engagement_history e join identities i using (identity_key)
  where e.tenant = %(tenant)s and e.type = 'leads_merged' and e.details ->> 'into' = any(%(leads)s)
  union select i.identity from identity_history h join identities i using (identity_key)
  where h.lead_key = any(%(lead_keys)s)
"""
_OTHER_LEADS: LiteralString = """
  with theirs as (
    select identity_key from identity_history where lead_key = any(%(lead_keys)s)
    union select identity_key from engagement_history
      where tenant = %(tenant)s and type = 'leads_merged' and details ->> 'into' = any(%(leads)s)
    union select unnest(%(identity_keys)s::bigint[])
  ) select distinct lead_id from identity_history join theirs using (identity_key) where lead_id <> all(%(leads)s)
"""
_EVERY_NAME: LiteralString = f"""
  select 'lead', lead_id from leads where tenant = %(tenant)s
  union select 'lead', home from identities where tenant = %(tenant)s
  union select 'visitor', split_part(regexp_replace(identity, '#[0-9]+$', ''), '/v/', 2) from identities
    where tenant = %(tenant)s and identity like %(tenant)s || '/v/%%'
  union select kind, value from ({_EVERY_ADDRESS}) as addresses where tenant = %(tenant)s
"""  # noqa: S608 - made of constants
_LEADS_OF_NAMES: LiteralString = """
  select lead_id from leads where tenant = %(tenant)s
    and (lead_id = any(%(lead)s) or email = any(%(email)s) or phone = any(%(phone)s)
         or other_addresses ?| (%(email)s::text[] || %(phone)s::text[]))
  union select lead_id from identities where tenant = %(tenant)s
    and (lead_id = any(%(lead)s) or home = any(%(lead)s)
         or split_part(regexp_replace(identity, '#[0-9]+$', ''), '/v/', 2) = any(%(visitor)s))
"""


class Person(Struct):
    """Everything that names one person. Lists are sorted."""

    tenant: str
    leads: list[str]
    """The lead, those merged with it, and the anonymous ones that it was before it was known."""
    identities: list[str]
    visitors: list[str]
    """Keys of visitors who were only this person (TENANT/v/VISITOR)."""
    shared_visitors: list[str]
    """Keys of visitors who were somebody else, too: a browser that several people use."""
    emails: list[str]
    phones: list[str]
    shared_addresses: list[str] = field(default_factory=list)
    """E-mail addresses and phone numbers that another lead has, too: by these nobody is refused."""
    merged_keys: list[str] = field(default_factory=list)
    """Keys of other leads and their visitors, which had been merged into this one and no longer are."""
    other_leads: list[str] = field(default_factory=list)
    """Leads that had an identity of the person for a while, or the person one of theirs: their causes may name the person."""

    @property
    def lead_keys(self) -> list[str]:
        return [lead_key(self.tenant, lead) for lead in self.leads]

    @property
    def source_keys(self) -> list[str]:
        """The keys of events that are only about this person."""
        return sorted({*self.lead_keys, *self.visitors})

    @property
    def row_keys(self) -> list[int]:
        return [lead_row_key(self.tenant, lead) for lead in self.leads]

    @property
    def other_lead_keys(self) -> list[str]:
        return [lead_key(self.tenant, lead) for lead in self.other_leads]

    @property
    def other_row_keys(self) -> list[int]:
        return [lead_row_key(self.tenant, lead) for lead in self.other_leads]

    @property
    def identity_keys(self) -> list[int]:
        return [hashed_key(identity) for identity in self.identities]

    @property
    def names(self) -> list[PersonName]:
        """By what later events are recognised. An anonymous lead counts as its visitor."""
        prefix = visitor_key(self.tenant, "")
        return [
            *(PersonName("lead", lead) for lead in self.leads if not is_anonymous(lead)),
            *(PersonName("visitor", key.removeprefix(prefix)) for key in self.visitors),
            *(PersonName("email", each) for each in self.emails if each not in self.shared_addresses),
            *(PersonName("phone", each) for each in self.phones if each not in self.shared_addresses),
        ]

    def hashes(self, salt: bytes) -> list[bytes]:
        return sorted({hash_of_name(salt, name) for name in self.names})


def find_person(connection: Connection, tenant: str, lead_ids: Iterable[str]) -> Person | None:
    """The person behind these leads. None: there are no such leads. The connection reads as `READ_OPTIONS` say."""
    lead_set = set(lead_ids)
    identities: set[str] = set()
    for _ in range(MOST_ROUNDS):
        before = len(lead_set), len(identities)
        for lead, redirect in connection.execute(_REDIRECTS, {"tenant": tenant, "leads": sorted(lead_set)}):
            lead_set |= {lead, redirect}
        rows = connection.execute(_IDENTITIES, {"tenant": tenant, "leads": sorted(lead_set)}).fetchall()
        identities |= {identity for identity, _ in rows}
        lead_set |= {owner for _, owner in rows if is_anonymous(owner)}
        former = connection.execute(
            _FORMER_LEADS, {"identity_keys": [hashed_key(each) for each in identities]}
        )
        lead_set |= {lead for (lead,) in former if is_anonymous(lead)}
        if before == (len(lead_set), len(identities)):
            break
    keys = [lead_row_key(tenant, lead) for lead in lead_set]
    rows_of_leads = connection.execute(
        "select count(*) from leads where lead_key = any(%s)", (keys,)
    ).fetchone()
    if not identities and (rows_of_leads is None or not rows_of_leads[0]):
        return None
    visitors, shared = _visitors_of(connection, identities)
    lead_set |= {anonymous_lead_id(key.split("/", 2)[2]) for key in visitors}
    person = Person(tenant, sorted(lead_set), sorted(identities), visitors, shared, [], [])
    _add_addresses(connection, person)
    parameters = {
        "tenant": tenant,
        "leads": person.leads,
        "lead_keys": person.row_keys,
        "identity_keys": person.identity_keys,
    }
    merged = connection.execute(_MERGED_INTO, parameters)
    person.merged_keys = sorted(
        {key_of_identity(each)[0] for (each,) in merged if each not in identities} - set(person.source_keys)
    )
    person.other_leads = sorted(lead for (lead,) in connection.execute(_OTHER_LEADS, parameters))
    return person


def _visitors_of(connection: Connection, identities: Iterable[str]) -> tuple[list[str], list[str]]:
    """(keys of visitors who are only these identities, keys of visitors who are others, too)"""
    own = set(identities)
    keys = sorted({key for each in own if (key := key_of_identity(each)[0]).split("/", 2)[1] == "v"})
    segments = [hashed_key(identity_id(key, n)) for key in keys for n in range(MOST_SEGMENTS + 1)]
    rows = connection.execute(_SEGMENTS, {"identity_keys": segments})
    shared = {key_of_identity(each)[0] for (each,) in rows if each not in own}
    return [key for key in keys if key not in shared], sorted(shared)


def _add_addresses(connection: Connection, person: Person) -> None:
    parameters = {
        "lead_keys": person.row_keys,
        "identity_keys": person.identity_keys,
        "tenant": person.tenant,
    }
    for kind, value in connection.execute(_ADDRESSES, parameters):
        (person.emails if kind == "email" else person.phones).append(value)
    person.emails.sort()
    person.phones.sort()
    shared = connection.execute(_SHARED_ADDRESSES, {**parameters, "values": [*person.emails, *person.phones]})
    person.shared_addresses = sorted({value for _, value in shared})


def leads_with_hashes(connection: Connection, tenant: str, salt: bytes, hashes: Sequence[bytes]) -> list[str]:
    """The leads that these hashes name: those that came back with an older backup."""
    targets = set(hashes)
    names: dict[str, list[str]] = {"lead": [], "visitor": [], "email": [], "phone": []}
    for kind, value in connection.execute(_EVERY_NAME, {"tenant": tenant}):
        if value and hash_of_name(salt, PersonName(kind, value)) in targets:
            names[kind].append(value)
    rows = connection.execute(_LEADS_OF_NAMES, {"tenant": tenant, **names})
    return sorted({lead for (lead,) in rows})


def select_lead_of_id(tenant: str, lead_id: str) -> Select[Any]:
    return select(leads.c.lead_id).where(leads.c.lead_key == lead_row_key(tenant, lead_id))


def select_leads_of_addresses(tenant: str, addresses: Sequence[str]) -> Select[Any]:
    """Those that have one of these e-mail addresses or phone numbers, in their one form: as their own, or of a lead that was merged
    into them.
    """
    listed = literal(list(addresses), ARRAY(Text))
    one_of = or_(
        leads.c.email == any_(listed), leads.c.phone == any_(listed), leads.c.other_addresses.has_any(listed)
    )
    return (
        select(leads.c.lead_id)
        .where(leads.c.tenant == tenant, leads.c.identified, leads.c.identities > 0, one_of)
        .order_by(leads.c.lead_id)
    )


def leads_named(connection: Connection, tenant: str, text: str, addresses: Sequence[str]) -> list[str]:
    """The lead of this id; if there is none, the leads that have one of these addresses."""
    for question in (select_lead_of_id(tenant, text), select_leads_of_addresses(tenant, addresses)):
        if named := connection.execute(*sql_and_parameters(question)).fetchall():
            return [lead for (lead,) in named]
    return []
