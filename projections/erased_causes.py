"""What an erased person caused at other leads: by a merge that was undone, or before somebody else took their browser. The
other lead keeps its points; the cause of a change no longer names the person. Nothing here commits.
"""

from collections.abc import Callable, Iterator
from typing import Final, LiteralString

from msgspec import Struct, structs
from psycopg.sql import SQL, Composed, Identifier

from projections import analytics_tables, table_sets, tables
from projections.connection import Connection
from projections.erasures import is_record_erased, table_name
from projections.facts import number_of_execution
from projections.person import Person
from schemas.activity import Activity, IdentityAttached, IdentityDelta
from schemas.decode import (
    Refusal,
    decode_activity,
    decode_statement,
    encode_activity,
    encode_statement,
)
from schemas.record import Record
from schemas.statements import (
    MASKED_CAUSE,
    EventApplied,
    SessionRetracted,
    SessionScored,
    Statement,
    WorkflowTriggered,
)
from schemas.topics import STATEMENT_TOPICS
from scoring.features.erased_people import ErasedPeople, is_key_erased

_TOPICS: Final = frozenset(STATEMENT_TOPICS.values())

_EVENTS: LiteralString = """
  select event_id from {engagement_history} where identity_key = any(%(identity_keys)s)
    or (tenant = %(tenant)s and type = 'leads_merged' and details ->> 'into' = any(%(leads)s))
  except select event_id from {engagement_history} join {identities} using (identity_key)
    where lead_key = any(%(other_keys)s) and not (type = 'leads_merged' and details ->> 'into' = any(%(leads)s))
"""
_CAUSES: LiteralString = "select distinct {column} from {table} where lead_key = any(%(other_keys)s)"
_MASK: LiteralString = """
  update {table} set {column} = split_part({column}, ':', 1) || ':' || %(mask)s
  where lead_key = any(%(other_keys)s) and {column} = any(%(causes)s)
"""
_LEAD_RECORDS: LiteralString = (
    "select lead_key, position, record from {lead_records} where lead_key = any(%s)"
)
_MARK_STALE: LiteralString = (
    "insert into {stale_leads} (lead_key, marked_at) select unnest(%s::bigint[]), now()"
)
_DELETE_LEAD_RECORD: LiteralString = "delete from {lead_records} where lead_key = %s and position = %s"
_CHANGE_LEAD_RECORD: LiteralString = (
    "update {lead_records} set record = %s where lead_key = %s and position = %s"
)


class ErasedNames(Struct, frozen=True):
    """How statements about other leads name the person."""

    is_identity: Callable[[str], bool]
    is_source: Callable[[str], bool]
    """Of the key of a visitor or a lead."""
    events: frozenset[str]
    """Ids of the person's events, and of merges with the person, as far as they are known."""
    leads: frozenset[str]

    def are_in(self, cause: str) -> bool:
        kind, _, what = cause.partition(":")
        match kind:
            case "attached" | "detached":
                return self.is_identity(what.rpartition(":")[0])
            case "event" | "redirect":
                return what in self.events or any(map(self.is_source, _possible_keys(what)))
            case _:
                return False


def _possible_keys(what: str) -> Iterator[str]:
    """A workflow knows a firing by KEY:EVENT_ID, and both may have colons."""
    return (what[:index] for index, character in enumerate(what) if character == ":")


def names_of_person(connection: Connection, person: Person) -> ErasedNames:
    """Read it before the rows are deleted."""
    parameters = {
        "tenant": person.tenant,
        "leads": person.leads,
        "identity_keys": person.identity_keys,
        "other_keys": person.other_row_keys,
    }
    events = connection.execute(_of_tables(_EVENTS), parameters) if person.other_leads else ()
    return ErasedNames(
        frozenset(person.identities).__contains__,
        frozenset(person.source_keys).__contains__,
        frozenset(event_id for (event_id,) in events),
        frozenset(person.leads),
    )


def names_of_people(people: ErasedPeople) -> ErasedNames:
    """Of people who are known by hashes only, and so without the ids of their events."""

    def is_source(key: str) -> bool:
        return key.count("/") >= 2 and is_key_erased(people, key)

    return ErasedNames(
        lambda identity: is_source(identity.rpartition("#")[0]), is_source, frozenset(), frozenset()
    )


def statement_without(names: ErasedNames, value: bytes) -> bytes | None:
    """A statement about another lead without the person. None: it is only about the person; the same bytes: it names nobody."""
    statement = decode_statement(value)
    match statement:
        case SessionScored() | SessionRetracted() if names.is_identity(statement.identity):
            return None
        case EventApplied() if names.is_source(statement.key) or statement.event_id in names.events:
            return None
        case _:
            masked = _masked(names, statement)
            return value if masked is statement else encode_statement(masked)


def _masked(names: ErasedNames, statement: Statement) -> Statement:
    if isinstance(statement, WorkflowTriggered) and names.are_in(statement.arm):
        number = number_of_execution(statement)
        statement = structs.replace(statement, arm=masked_cause(statement.arm), execution_id=number)
    if names.are_in(statement.caused_by):
        statement = structs.replace(statement, caused_by=masked_cause(statement.caused_by))
    return statement


def masked_cause(cause: str) -> str:
    return f"{cause.partition(':')[0]}:{MASKED_CAUSE}"


def record_without(people: ErasedPeople, record: Record) -> Record | None:
    """A record of Kafka, which keeps it until its retention ends, without the erased people. None: it is about one of them."""
    if is_record_erased(people, record):
        return None
    if record.value is None or record.topic not in _TOPICS:
        return record
    try:
        value = statement_without(names_of_people(people), record.value)
    except Refusal:
        return record  # a dead letter
    return None if value is None else record._replace(value=value)


def mask_rows(connection: Connection, person: Person, names: ErasedNames) -> None:
    """In every table that has causes. The analytics worker computes the other leads again, without the merges."""
    parameters = {"other_keys": person.other_row_keys, "mask": MASKED_CAUSE}
    for table in table_sets.ALL_TABLES.sorted_tables if person.other_leads else ():
        for column in {"caused_by", "arm"} & set(table.columns.keys()):
            names_in_query = {"table": table_name(table), "column": Identifier(column)}
            rows = connection.execute(SQL(_CAUSES).format(**names_in_query), parameters)
            causes = [cause for (cause,) in rows if names.are_in(cause)]
            if causes:
                connection.execute(SQL(_MASK).format(**names_in_query), parameters | {"causes": causes})
    connection.execute(_of_tables(_MARK_STALE), (person.other_row_keys,))


def activity_without(names: ErasedNames, activity: Activity) -> Activity | None:
    """Another lead's activity without the person. None: it is a merge with the person; the same: it names nobody."""
    match activity:
        case IdentityDelta() if activity.event_id in names.events:
            return None
        case IdentityAttached() if not names.leads.isdisjoint(activity.path):
            return structs.replace(activity, path=[lead for lead in activity.path if lead not in names.leads])
        case _:
            return activity


def change_lead_records(connection: Connection, person: Person, names: ErasedNames) -> None:
    """In what the other leads as of a past moment are made of."""
    records = connection.execute(_of_tables(_LEAD_RECORDS), (person.other_row_keys,)).fetchall()
    for lead, position, record in records:
        activity = decode_activity(bytes(record))
        left = activity_without(names, activity)
        if left is None:
            connection.execute(_of_tables(_DELETE_LEAD_RECORD), (lead, position))
        elif left is not activity:
            connection.execute(_of_tables(_CHANGE_LEAD_RECORD), (encode_activity(left), lead, position))


def _of_tables(query: LiteralString) -> Composed:
    used = (
        tables.identity_history,
        tables.engagement_history,
        tables.identities,
        tables.lead_records,
        analytics_tables.stale_leads,
    )
    return SQL(query).format(**{table.name: table_name(table) for table in used})
