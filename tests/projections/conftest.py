"""Fixtures of the tests that project; `tests/streams` lends them its driver of both stages."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from projections.migrate import migrate

sys.path.append(str(Path(__file__).parents[1] / "streams"))


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to fresh, empty read models."""
    migrate(database_url)
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        yield connection
