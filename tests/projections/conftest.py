"""Fixtures of the tests that project; `tests/streams` lends them its driver of both stages."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "streams"))


@pytest.fixture
def db(read_models_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to fresh, empty read models."""
    with psycopg.connect(read_models_url, options="-c timezone=UTC") as connection:
        yield connection
