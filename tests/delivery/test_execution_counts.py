"""Counts of how executions ended are kept when the outbox forgets them, each execution once, whatever happens in between."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
import pytest

from delivery.outbox import count_ended, prune, retry
from projections.queries import sql_and_parameters
from projections.workflow_queries import executions_by_status

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
ENDED = ("dead", "skipped", "delivered")
WORST_FIRST = ("dead", "failed", "delivering", "waiting", "skipped", "delivered")


class NaiveOutbox:
    """Forgets nothing, and counts by looking at every row."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, str], str] = {}
        self.at: dict[tuple[str, int], datetime] = {}

    def counts(self, tenant: str, since: datetime | None) -> Counter[str]:
        found = Counter[str]()
        for (owner, number), at in self.at.items():
            if owner == tenant and (since is None or at >= since):
                of_it = [status for key, status in self.rows.items() if key[:2] == (owner, number)]
                found[min(of_it, key=WORST_FIRST.index)] += 1
        return found


def add(
    connection: "psycopg.Connection[Any]", tenant: str, number: int, at: datetime, channels: list[str]
) -> None:
    for channel in channels:
        connection.execute(
            "insert into public.outbox (tenant, execution_id, lead_key, lead_id, workflow_id, workflow, version, trigger, reason,"
            " action, config, hops, at, caused_by, channel, priority, status, attempts, next_attempt_at, created_at, counted)"
            " values (%s, %s, 1, 'l', 1, 'w', 1, 'manual', 'r', 'send_notification', '{}', 0, %s, 'e', %s, 0, 'waiting', 0, %s, %s,"
            " false)",
            (tenant, number, at, channel, at, at),
        )


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_those_of_an_outbox_that_forgets_nothing(read_models_url: str, seed: int):
    chance, naive = Random(seed), NaiveOutbox()
    with psycopg.connect(read_models_url, autocommit=True) as connection:
        for step in range(150):
            match chance.choice(["add", "change", "change", "change", "count", "retry", "prune"]):
                case "add":
                    tenant, number = chance.choice(["a", "b"]), step
                    at = BEGAN + timedelta(minutes=15 * chance.randrange(40))
                    channels = ["x", "y", "z"][: chance.randint(1, 3)]
                    add(connection, tenant, number, at, channels)
                    naive.at[tenant, number] = at
                    naive.rows |= {(tenant, number, each): "waiting" for each in channels}
                case "change":
                    under_way = [key for key, status in naive.rows.items() if status not in ENDED]
                    if under_way:
                        key = chance.choice(under_way)
                        naive.rows[key] = chance.choice([*ENDED, "failed", "delivering"])
                        connection.execute(
                            "update public.outbox set status = %s where (tenant, execution_id, channel) = (%s, %s, %s)",
                            (naive.rows[key], *key),
                        )
                case "count":
                    count_ended(connection)
                case "retry":
                    numbers = chance.sample(range(150), 40)
                    kept = connection.execute(
                        "select tenant, execution_id, channel from public.outbox"
                    ).fetchall()
                    again = [
                        key for key in kept if key[1] in numbers and naive.rows[key] in {"dead", "skipped"}
                    ]
                    assert retry(connection, execution_ids=numbers) == len(again)
                    naive.rows |= dict.fromkeys(again, "waiting")
                case "prune":
                    prune(connection, 90)  # what is not counted yet stays
            for tenant in ("a", "b"):
                since = chance.choice([None, BEGAN + timedelta(hours=chance.randrange(10))])
                rows = connection.execute(*sql_and_parameters(executions_by_status(tenant, since))).fetchall()
                counted = {status: count for status, count in rows if count}
                assert counted == naive.counts(tenant, since)
