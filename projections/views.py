"""Views of the embedded log and state, as readers of the read models see them.

They stand inside the schema of the read models, so a rebuild brings its own. Without the embedded
log's tables there is nothing to view, and no view is made.
"""

from typing import Any, Final

import psycopg
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy import column, table

from projections.tables import PUBLIC
from schemas.control import CONTROL_TYPES, DERIVED_TYPES
from schemas.envelope import tag_of
from schemas.topics import EVENTS

state = table("state", column("stage"), column("key"), column("part"), column("value"), schema=PUBLIC)
"""The embedded state of every stage, in parts; another package's table, so read and nothing else."""

SCORE_LEADS: Final = "score_leads"
IDENTITY_PART: Final = "id:"
"""What a lead's parts that hold an identity's features begin with."""

event_archive = table(
    "event_archive", column("partition"), column("position"), column("key"), column("value")
)
"""Every record of `events` that a producer sent; one that cannot be decoded is also a dead letter."""

lead_features = table(
    "lead_features", column("tenant"), column("lead_id"), column("identity"), column("encoded")
)
"""Each lead's features per identity: a codec version, then MessagePack [epoch, home, features]."""

_OURS: Final = tuple(f'{{"type":"{tag_of(kind)}",' for kind in (*CONTROL_TYPES, *DERIVED_TYPES))
"""How records begin that are no facts of a producer. Only this program writes them, tag first."""


def create_views(connection: psycopg.Connection[Any], schema: str) -> None:
    """Makes or replaces the views whose tables are there."""
    if _exists(connection, "public.records"):
        ours = SQL(" and ").join(
            SQL("substr(value, 1, {}) <> {}").format(Literal(len(prefix)), Literal(prefix.encode()))
            for prefix in _OURS
        )
        connection.execute(
            SQL(
                "create or replace view {} as select partition, position, key, value "
                "from public.records where topic = {} and {}"
            ).format(Identifier(schema, event_archive.name), Literal(EVENTS), ours)
        )
    if _exists(connection, "public.state"):
        connection.execute(
            SQL(
                "create or replace view {} as select key, split_part(key, '/', 1) as tenant, "
                "substr(key, strpos(key, '/l/') + 3) as lead_id, substr(part, {}) as identity, value as encoded "
                "from public.state where stage = {} and starts_with(part, {})"
            ).format(
                Identifier(schema, lead_features.name),
                Literal(len(IDENTITY_PART) + 1),
                Literal(SCORE_LEADS),
                Literal(IDENTITY_PART),
            )
        )


def _exists(connection: psycopg.Connection[Any], name: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", (name,)).fetchone()
    return row is not None and bool(row[0])
