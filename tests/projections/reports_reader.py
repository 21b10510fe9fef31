"""A connection of the role that docs/reports.md creates."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from projections.reports import QUERIES

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
REFUSED = (
    "select * from live.leads",
    "select * from public.positions",
    "delete from reports.users",
    "create table reports.mine (id int)",
)


@contextmanager
def reports_reader(database_url: str, role: str) -> Iterator["psycopg.Connection[Any]"]:
    """Roles belong to the server, not to the database: `role` is a name that no other test has."""
    [script] = re.findall(r"```sql\n(create role .*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(script.replace("reports_reader", role).encode())
        try:
            connection.execute(f"set role {role}".encode())
            yield connection
        finally:
            connection.execute("reset role")
            connection.execute(f"drop owned by {role}".encode())
            connection.execute(f"drop role {role}".encode())


def assert_reads_reports_only(connection: "psycopg.Connection[Any]") -> None:
    for view in QUERIES:
        connection.execute(f"select count(*) from reports.{view}".encode())
    for refused in REFUSED:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(refused.encode())
