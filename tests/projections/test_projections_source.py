"""A database belongs to one log, and says whose it is when another one comes."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from projection_records import open_log

from projections.source import (
    KafkaSource,
    SourceError,
    bind_source,
    bound_source,
    follow_app,
    refuse_embedded,
    refuse_kafka,
)

pytestmark = pytest.mark.postgres
OURS = KafkaSource("cluster-1", "p-", "leadstream")


def test_a_fresh_database_follows_nothing(database_url):
    with psycopg.connect(database_url) as connection:
        assert bound_source(connection) is None
        refuse_embedded(connection)
        refuse_kafka(connection)


def test_the_first_to_come_decides(db):
    assert bound_source(db) is None
    bind_source(db, OURS)
    db.commit()
    assert bound_source(db) == OURS
    bind_source(db, OURS)


@pytest.mark.parametrize(
    "other", [OURS._replace(cluster_id="cluster-2"), OURS._replace(prefix=""), KafkaSource("c", "", "other")]
)
def test_another_cluster_or_prefix_is_refused_with_the_remedy(db, other):
    bind_source(db, OURS)
    with pytest.raises(SourceError, match=r"cluster-1 \(prefix 'p-'\).*LEADSTREAM_DATABASE_URL"):
        bind_source(db, other)
    assert bound_source(db) == OURS


def test_another_app_is_refused_until_a_rebuild_says_otherwise(db):
    bind_source(db, OURS)
    other = OURS._replace(app="next")
    with pytest.raises(SourceError, match=r"'leadstream', not of 'next': run `leadstream rebuild`"):
        bind_source(db, other)
    follow_app(db, "next")
    bind_source(db, other)


def test_a_database_with_an_embedded_log_never_follows_kafka(read_models_url, db):
    open_log(read_models_url)
    for refused in (refuse_embedded, lambda connection: bind_source(connection, OURS)):
        with pytest.raises(
            SourceError, match=r"embedded log.*LEADSTREAM_DATABASE_URL.*leadstream export --to-kafka"
        ):
            refused(db)
    assert bound_source(db) is None


def test_a_database_that_follows_kafka_takes_no_embedded_log(db):
    bind_source(db, OURS)
    with pytest.raises(SourceError, match=r"cluster-1.*--kafka"):
        refuse_kafka(db)


def test_of_two_that_come_at_once_one_is_refused(read_models_url, db):
    def second() -> None:
        with psycopg.connect(read_models_url) as connection:
            bind_source(connection, OURS._replace(prefix="other-"))

    bind_source(db, OURS)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(second)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        db.commit()
        with pytest.raises(SourceError, match="cluster-1"):
            waiting.result(20)
