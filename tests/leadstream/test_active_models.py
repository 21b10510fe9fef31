"""How the gateway reads what shards have: whole in one of them, and only what is asked for."""

import psycopg
import pytest
from msgspec import msgpack

from authoring.active_models import ActiveModelsFilter
from leadstream import active_models
from leadstream.active_models import active_models_of_shards
from streams.published import (
    PUBLISHED_CODEC,
    ModelVersion,
    SweepState,
    TenantSettings,
    WorkflowsVersion,
)

pytestmark = pytest.mark.postgres

LONG = "ours" * 20_000


@pytest.fixture
def state(database_url):
    """Writes a part of a shard's state, as scoring leaves it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create schema live")
        connection.execute(
            "create table live.shard_state (stage text, partition int, part text, value bytea)"
        )

        def write(partition, part, said, stage="score_leads"):
            connection.execute(
                "insert into live.shard_state values (%s, %s, %s, %s)",
                (stage, partition, part, bytes([PUBLISHED_CODEC]) + msgpack.encode(said)),
            )

        yield write


def test_each_partition_tells_its_own_version_its_sweep_and_nothing_of_others(state, database_url):
    for partition in (0, 1, 2, 10):
        state(partition, "model:*:rules", ModelVersion(1, "shared"))
        state(partition, "settings:*", TenantSettings(lifecycle="stages"))
    state(0, "model:acme:rules", ModelVersion(2, LONG))
    state(1, "model:acme:rules", ModelVersion(3, f"{LONG}!"))
    state(10, "model:acme:rules", ModelVersion(3, f"{LONG}!"))
    state(1, "model:acme:old_one", ModelVersion(4, ""))
    state(2, "model:globex:rules", ModelVersion(1, "theirs"))
    state(1, "sweep", SweepState("what", "acme/l/x", "acme", "rules"))
    state(10, "sweep", SweepState("what", "acme/l/y", "acme", "rules"))
    state(0, "model:acme:rules", ModelVersion(9, "of another stage"), stage="track_sessions")

    mine = active_models_of_shards(database_url, ActiveModelsFilter(["acme"], "rules"))
    assert [shard.models for shard in mine] == [
        {"acme": {"rules": ModelVersion(2, LONG)}},
        {"acme": {"rules": ModelVersion(3, f"{LONG}!")}},
        {},
        {"acme": {"rules": ModelVersion(3, f"{LONG}!")}},
    ]
    assert [shard.sweep for shard in mine] == [
        None,
        SweepState("what", "acme/l/x", "acme", "rules"),
        None,
        SweepState("what", "acme/l/y", "acme", "rules"),
    ]
    assert not any(shard.settings for shard in mine)

    both = active_models_of_shards(database_url, ActiveModelsFilter(["acme", "*"]))
    assert both[1].models == {
        "*": {"rules": ModelVersion(1, "shared")},
        "acme": {"rules": ModelVersion(3, f"{LONG}!"), "old_one": ModelVersion(4, "")},
    }
    every = active_models_of_shards(database_url, ActiveModelsFilter(model="rules", lifecycles=True))
    assert every[2].models == {
        "*": {"rules": ModelVersion(1, "shared")},
        "globex": {"rules": ModelVersion(1, "theirs")},
    }
    assert [shard.settings for shard in every] == [{"*": TenantSettings(lifecycle="stages")}] * 4


def test_a_text_that_every_partition_has_is_read_from_one(state, database_url, monkeypatch):
    for partition in range(24):
        state(partition, "model:*:rules", ModelVersion(1, LONG))
    read = []
    connect = active_models.connect_watched

    def listened(*given, **named):
        connection = connect(*given, **named)
        execute = connection.execute

        def counted(*asked, **also):
            for row in (found := execute(*asked, **also).fetchall()):
                read.append(sum(len(field) for field in row if isinstance(field, bytes)))
            return found

        connection.execute = counted
        return connection

    monkeypatch.setattr(active_models, "connect_watched", listened)
    assert len(active_models_of_shards(database_url, ActiveModelsFilter())) == 24
    assert len(LONG) < sum(read) < len(LONG) + 24 * 100


def test_workflows_come_with_the_moments_of_each_partition_and_without_models(state, database_url):
    for partition in (0, 1):
        state(partition, "model:acme:rules", ModelVersion(2, LONG))
        state(partition, "settings:acme", TenantSettings(1, "Europe/Berlin"))
        state(partition, "workflows:acme", WorkflowsVersion(3, LONG, 3))
        state(partition, "moments:acme", {7: 1_000 + partition})
    shards = active_models_of_shards(
        database_url, ActiveModelsFilter(model="", lifecycles=True, workflows=True)
    )
    assert [shard.moments for shard in shards] == [{"acme": {7: 1_000}}, {"acme": {7: 1_001}}]
    assert {(shard.workflows["acme"].version, shard.settings_of("acme").time_zone) for shard in shards} == {
        (3, "Europe/Berlin")
    }
    assert [shard.models for shard in shards] == [{}, {}]
    assert active_models_of_shards(database_url, ActiveModelsFilter())[0].workflows == {}
