"""What we use of Kafka's client without its promise: it is little, in one file, and still there."""

import asyncio
from importlib.metadata import version
from pathlib import Path

import pytest

from streams.kafka.private_names import PRIVATE_NAMES_BY_PURPOSE

STREAMS = Path(__file__).parents[2] / "streams"


@pytest.mark.parametrize(
    ("owner", "name"),
    sorted(
        {
            (owner, name)
            for uses in PRIVATE_NAMES_BY_PURPOSE.values()
            for owner, names in uses.items()
            for name in names
        },
        key=str,
    ),
)
def test_a_private_name_that_a_version_lacks_is_named(owner, name):
    async def has_it():
        client = owner(bootstrap_servers="127.0.0.1:1")
        try:
            return hasattr(client, name)
        finally:
            await client.stop()

    assert asyncio.run(has_it()), (
        f"{owner.__name__}.{name} is gone from aiokafka {version('aiokafka')}: streams/kafka/private_names.py needs another way"
    )


def test_private_names_of_others_are_used_in_one_file_only():
    users = {path.relative_to(STREAMS) for path in STREAMS.rglob("*.py") if "SLF001" in path.read_text()}
    assert users == {Path("kafka/private_names.py")}
    assert len(PRIVATE_NAMES_BY_PURPOSE) <= 3
