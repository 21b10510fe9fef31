"""A subscriber of Leadstream in Python: `pip install confluent-kafka`, then `python subscribe.py`.

It keeps each lead as it is now, and notes once whom to call: a lead that has just crossed the threshold of a
band. Its position in Kafka is a row beside these rows, written in the same transaction. So it may be killed at
any moment, and goes on where its rows are: nothing is missed, and nothing is done twice.
"""

import json
import os
import signal
import sqlite3

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

Call = tuple[str, str, str]
"""The statement's id, the lead, and the band that it has entered."""

PREFIX = os.environ.get("LEADSTREAM_KAFKA_PREFIX", "")
LEAD_SCORES, LEAD_CHANGES = PREFIX + "lead-scores", PREFIX + "lead-changes"
TABLES = """
    create table if not exists leads (key text primary key, stage text not null, scores text not null);
    create table if not exists calls (statement_id text primary key, lead_id text not null, band text not null);
    create table if not exists positions
        (topic text, partition integer, position integer not null, primary key (topic, partition))
"""


def opened(path: str) -> sqlite3.Connection:
    store = sqlite3.connect(path, isolation_level=None)  # transactions are begun by hand, below
    store.executescript(TABLES)
    return store


def position(store: sqlite3.Connection, topic: str, partition: int) -> int | None:
    """The next record that is to be taken."""
    query = "select position from positions where topic = ? and partition = ?"
    found = store.execute(query, (topic, partition)).fetchone()
    return found[0] if found else None


def take(store: sqlite3.Connection, records: list[Message]) -> list[Call]:
    """The records' effects and the position after them: all of it, or nothing. Returns the calls to make."""
    calls: list[Call] = []
    store.execute("begin immediate")
    try:
        for record in records:
            topic, partition, offset = record.topic(), record.partition(), record.offset()
            if offset < (position(store, topic, partition) or 0):
                continue  # taken already, by a process that this one has replaced
            calls += apply(store, topic, record.key().decode(), record.value())
            store.execute("insert or replace into positions values (?, ?, ?)", (topic, partition, offset + 1))
        store.execute("commit")
    except BaseException:
        store.execute("rollback")
        raise
    return calls


def apply(store: sqlite3.Connection, topic: str, key: str, value: bytes | None) -> list[Call]:
    if value is None:  # a tombstone: the lead is no more
        store.execute("delete from leads where key = ?", (key,))
        return []
    statement = json.loads(value)  # fields and types that are not known here are ignored
    if topic == LEAD_SCORES:
        totals = {model: score["total"] for model, score in statement["scores"].items()}
        row = (key, statement["stage"], json.dumps(totals, sort_keys=True))
        store.execute("insert or replace into leads values (?, ?, ?)", row)
    elif statement["type"] == "band_changed" and statement.get("crossed") and not statement.get("silent"):
        call = (statement["statement_id"], statement["lead_id"], statement["band"])
        if store.execute("insert or ignore into calls values (?, ?, ?)", call).rowcount:
            return [call]  # else it is a repetition
    return []


def main() -> None:
    store = opened(os.environ.get("STORE", "leads.sqlite"))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("LEADSTREAM_KAFKA", "127.0.0.1:9092"),
            "group.id": os.environ.get("GROUP", "leads-to-call"),
            "isolation.level": "read_committed",  # only what was committed counts
            "session.timeout.ms": 6_000,  # after so long the partitions of a killed one are given to another
            "enable.auto.commit": False,  # the position is in the store
            "auto.offset.reset": "error",  # what is lost to retention is an error, and never passed over in silence
        }
    )

    def on_assign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            found = position(store, each.topic, each.partition)
            each.offset = OFFSET_BEGINNING if found is None else found
        consumer.assign(partitions)

    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    consumer.subscribe([LEAD_SCORES, LEAD_CHANGES], on_assign=on_assign)
    try:
        while not stopped:
            records = consumer.consume(500, timeout=0.5)
            for record in records:
                if (error := record.error()) is not None:
                    raise KafkaException(error)
            if records:
                for call in take(store, records):
                    # As JSON, whose escapes keep texts of strangers from commanding the terminal.
                    print(json.dumps({"call": call}), flush=True)
                consumer.commit(asynchronous=True)  # only for those who watch the group's lag
    finally:
        consumer.close()
        store.close()


if __name__ == "__main__":
    main()
