"""Which records of an embedded log are about one person. They become stubs: their positions stay, their bytes go.

Every record of the person's keys is one, except what other leads' identities did while they were merged into the person's; of a browser that others use, too, only those of this person. It reads each topic
once, since a log has no index on keys.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Final, LiteralString

from msgspec import structs
from psycopg.sql import SQL

from projections.connection import Connection
from projections.erased_causes import ErasedNames, activity_without, statement_without
from projections.erasures import KEY_MAY_BE_OF_TENANT, is_of_person, source_names_lead
from projections.person import Person
from projections.row_keys import hashed_key
from schemas.activity import (
    Activity,
    ErasureRecorded,
    EventNoted,
    ExperimentChanged,
    IdentityAttached,
    IdentityCompleted,
    IdentityDelta,
    IdentityDetached,
    ModelChanged,
    ModelRemoved,
    RedirectChanged,
    SettingsChanged,
    TimePassed,
    WorkflowMomentCame,
    WorkflowsChanged,
)
from schemas.decode import decode_activity, decode_dead_letter, decode_source, encode_activity
from schemas.envelope import Event
from schemas.record import ERASED_KEY
from schemas.topics import DEAD_LETTERS, EVENTS, LEAD_ACTIVITY, LEAD_CHANGES, SCORE_CHANGED, SESSION_SCORES

RecordAddress = tuple[str, int, int]
"""(topic, partition, position)"""
STATEMENT_TOPICS: Final = (SESSION_SCORES, SCORE_CHANGED, LEAD_CHANGES)

NAMES_NO_OTHER_LEAD: Final = frozenset(
    {
        IdentityDetached,
        IdentityDelta,
        IdentityCompleted,
        EventNoted,
        TimePassed,
        ModelChanged,
        ModelRemoved,
        SettingsChanged,
        WorkflowsChanged,
        WorkflowMomentCame,
        ExperimentChanged,
        ErasureRecorded,
    }
)
"""Kinds of activity without a field for the id of a lead, beside that of their key."""

_OF_KEYS: LiteralString = (
    "select topic, partition, position from public.records where topic = %s and key = any(%s)"
)
_VALUES_OF_KEYS: LiteralString = "select partition, position, value from public.records where topic = %s and key = any(%s) and value is not null"
_VALUES: LiteralString = (
    "select partition, position, value from public.records where topic = %s and value is not null"
)
_FORMER_LEADS: LiteralString = """
  select distinct tenant || '/l/' || lead_id from live.identity_history where identity_key = any(%s)
"""
_EVENT_IDS_OF_OTHERS: LiteralString = """
  select e.event_id from live.identities i join live.engagement_history e using (identity_key)
  where i.tenant = %s and regexp_replace(i.identity, '#[0-9]+$', '') = any(%s) and i.identity_key <> all(%s)
"""
_DEAD_LETTERS: Final = SQL(
    "select topic, partition, position from live.dead_letters where key = any(%s) or ("
    "{} and exists (select from unnest(%s::bytea[]) as name where position(name in original) > 0))"
).format(SQL(KEY_MAY_BE_OF_TENANT))


def records_of_person(connection: Connection, person: Person, names: Sequence[bytes]) -> set[RecordAddress]:
    """`names` are searched for in records that nobody could read. Read it before the rows are deleted."""
    addresses = set(_of_keys(connection, (*STATEMENT_TOPICS, LEAD_ACTIVITY), person.lead_keys))
    addresses |= set(_of_keys(connection, (EVENTS,), person.source_keys))
    addresses |= set(_of_keys(connection, (DEAD_LETTERS,), person.source_keys))
    addresses |= set(_events_of_shared_visitors(connection, person))
    addresses |= set(_activity_at_other_leads(connection, person))
    addresses |= set(_events_of_merged_leads(connection, person))
    addresses |= set(_dead_letters(connection, person, names))
    return addresses


def changed_records(
    connection: Connection, lead_keys: Sequence[str], names: ErasedNames
) -> dict[RecordAddress, bytes | None]:
    """The records of other leads that name the person: without the names, or None if they are only about the person."""
    changed: dict[RecordAddress, bytes | None] = {}
    for topic in STATEMENT_TOPICS if lead_keys else ():
        for partition, position, value in connection.execute(_VALUES_OF_KEYS, (topic, lead_keys)):
            left = statement_without(names, bytes(value))
            if left != bytes(value):
                changed[topic, partition, position] = left
    for partition, position, value in connection.execute(_VALUES_OF_KEYS, (LEAD_ACTIVITY, lead_keys)):
        activity = decode_activity(bytes(value))
        without = activity_without(names, activity)
        if without is not activity:
            changed[LEAD_ACTIVITY, partition, position] = (
                None if without is None else encode_activity(without)
            )
    return changed


def records_of_other_identities(
    connection: Connection, person: Person, names: ErasedNames
) -> dict[RecordAddress, bytes]:
    """What other leads' identities did while their leads were merged into this one: without the lead, and nothing else of it.
    A rebuild reads it again.
    """
    return {
        (LEAD_ACTIVITY, partition, position): encode_activity(left)
        for partition, position, value in connection.execute(
            _VALUES_OF_KEYS, (LEAD_ACTIVITY, person.lead_keys)
        )
        if (left := _without_lead(decode_activity(bytes(value)), person, names)) is not None
    }


def _without_lead(activity: Activity, person: Person, names: ErasedNames) -> Activity | None:
    """None: it is about nobody else."""
    if not isinstance(activity, IdentityAttached | IdentityDelta) or activity.identity in person.identities:
        return None
    event = activity.event
    if event is not None and (activity.event_id in names.events or _names_lead_of(person, event)):
        return None
    if isinstance(activity, IdentityDelta):
        return structs.replace(activity, lead_id=ERASED_KEY, lift=b"", forgotten=[])
    if event is None and not activity.sessions:
        return None
    return structs.replace(
        activity, lead_id=ERASED_KEY, home=ERASED_KEY, features=b"", path=[], carried=None, identified=None
    )


def _names_lead_of(person: Person, event: bytes) -> bool:
    source = decode_source(event)
    return (isinstance(source, Event) and source.lead_id in person.leads) or source_names_lead(
        event, person.leads
    )


def _of_keys(connection: Connection, topics: Sequence[str], keys: Sequence[str]) -> Iterator[RecordAddress]:
    for topic in topics:
        for row in connection.execute(_OF_KEYS, (topic, keys)):
            yield row[0], row[1], row[2]


def _selected(
    connection: Connection, topic: str, keys: Sequence[str], selects: Callable[[bytes], bool]
) -> Iterator[RecordAddress]:
    if not keys:
        return
    for partition, position, value in connection.execute(_VALUES_OF_KEYS, (topic, keys)):
        if selects(bytes(value)):
            yield topic, partition, position


def _events_of_shared_visitors(connection: Connection, person: Person) -> Iterator[RecordAddress]:
    """Of a browser that others use, too: what was counted for them stays, and what names another lead."""
    rows = connection.execute(
        _EVENT_IDS_OF_OTHERS, (person.tenant, person.shared_visitors, person.identity_keys)
    )
    of_others = {row[0] for row in rows}

    def is_theirs(value: bytes) -> bool:
        return is_of_person(value, person, of_others)

    yield from _selected(connection, EVENTS, person.shared_visitors, is_theirs)


def _activity_at_other_leads(connection: Connection, person: Person) -> Iterator[RecordAddress]:
    """What was sent to leads that had one of the identities for a while: a merge that was undone."""
    keys = [hashed_key(identity) for identity in person.identities]
    rows = connection.execute(_FORMER_LEADS, (keys,))
    others = sorted({row[0] for row in rows} - set(person.lead_keys))
    identities = set(person.identities)

    def is_theirs(value: bytes) -> bool:
        activity = decode_activity(value)
        return (
            isinstance(activity, IdentityAttached | IdentityCompleted | IdentityDelta | IdentityDetached)
            and activity.identity in identities
        )

    yield from _selected(connection, LEAD_ACTIVITY, others, is_theirs)


def _events_of_merged_leads(connection: Connection, person: Person) -> Iterator[RecordAddress]:
    """The merges of other leads into this one, which were undone, and what moved their identities: they name it."""
    leads = set(person.leads)

    def names_them(value: bytes) -> bool:
        return source_names_lead(value, leads)

    def activity_names_them(value: bytes) -> bool:
        activity = decode_activity(value)
        return names_lead(activity, leads) or any(map(names_them, events_in(activity)))

    yield from _selected(connection, EVENTS, person.merged_keys, names_them)
    yield from _selected(connection, LEAD_ACTIVITY, person.merged_keys, activity_names_them)


def names_lead(activity: Activity, leads: Container[str]) -> bool:
    """Whether a record of another lead's key names one of the leads. A new kind of activity has to say so here."""
    match activity:
        case RedirectChanged(to=to):
            return to in leads
        case IdentityAttached():
            # `path` has leads that a cycle of merges went through: the identity is somebody else's.
            return activity.home in leads
        case _ if type(activity) in NAMES_NO_OTHER_LEAD:
            return False
        case _:
            raise AssertionError(f"{type(activity).__name__} is not known to name a lead, or none")


def events_in(activity: Activity) -> list[bytes]:
    """The events, as they were recorded, that the activity has in it: whatever kind has the field."""
    event = getattr(activity, "event", None)
    return [event] if isinstance(event, bytes) else []


def _dead_letters(connection: Connection, person: Person, names: Sequence[bytes]) -> Iterator[RecordAddress]:
    """Records that nobody could read, and their dead letters."""
    rows = connection.execute(_DEAD_LETTERS, (person.source_keys, person.tenant, list(names)))
    sources: set[RecordAddress] = {(row[0], row[1], row[2]) for row in rows}
    yield from sources
    for partition, position, value in connection.execute(_VALUES, (DEAD_LETTERS,)):
        dead_letter = decode_dead_letter(bytes(value))
        if (dead_letter.topic, dead_letter.partition, dead_letter.position) in sources:
            yield DEAD_LETTERS, partition, position
