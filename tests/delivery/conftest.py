"""Fixtures of the tests of delivery: real servers on this machine, and an outbox in a fresh database."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "projections"))

import psycopg
import pytest
from outboxes import Outbox
from psycopg.sql import SQL, Identifier
from receivers import HttpReceiver, MailServer


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


DATABASE = "delivery"


@pytest.fixture(scope="session")
def delivery_url(postgres_url: str, migrated_once: str) -> Iterator[str]:
    """A database for all tests of delivery: making one for each would take longer than the tests."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            SQL("create database {} template {}").format(Identifier(DATABASE), Identifier(migrated_once))
        )
    yield postgres_url.replace("/leadstream?", f"/{DATABASE}?")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("drop database {} with (force)").format(Identifier(DATABASE)))


@pytest.fixture
def outbox(delivery_url: str) -> Outbox:
    """Empty read models and an empty outbox."""
    outbox = Outbox(delivery_url)
    outbox.execute(
        "truncate live.workflow_executions, live.leads, live.lead_scores, public.outbox, public.notifications, public.positions"
    )
    return outbox
