"""The common job on Faust as it is shipped: two agents, two tables, its defaults."""

import argparse
import sys
import tempfile

import faust
from msgspec import structs, to_builtins

from bench.engine.job import LatestSession, Lead, ScoredSession, Seen, gather, visit
from bench.processes import say_first
from schemas.topics import EVENTS, LEAD_ACTIVITY, SCORE_CHANGED
from streams.kafka.cluster import Cluster


def create_app(cluster: Cluster, partitions: int, directory: str) -> faust.App:
    app = faust.App(
        cluster.group,
        broker=f"kafka://{cluster.brokers}",
        store="memory://",
        topic_partitions=partitions,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        datadir=directory,
    )

    def topic(name: str) -> faust.TopicT:
        return app.topic(
            cluster.topic(name),
            key_type=str,
            key_serializer="raw",
            value_serializer="json",
            partitions=partitions,
        )

    activity, changes = topic(LEAD_ACTIVITY), topic(SCORE_CHANGED)
    sessions = app.Table("sessions", partitions=partitions)
    leads = app.Table("leads", partitions=partitions)

    @app.agent(topic(EVENTS))
    async def score_sessions(events: faust.StreamT) -> None:
        begun = False
        async for raw in events:
            if not begun:
                begun = True
                say_first()
            event = Seen(**{name: raw[name] for name in Seen.__struct_fields__})
            session = LatestSession(*sessions.get(event.visitor_id, ()))
            score = visit(session, event)
            sessions[event.visitor_id] = structs.astuple(session)
            if score is not None:
                emitted = ScoredSession(event.visitor_id, event.lead_id, session.number, score, event.t)
                await activity.send(key=event.lead_id, value=structs.asdict(emitted))

    @app.agent(activity)
    async def score_leads(activities: faust.StreamT) -> None:
        async for raw in activities:
            lead = Lead(*leads.get(raw["lead_id"], ()))
            changed = gather(lead, ScoredSession(**raw))
            leads[raw["lead_id"]] = to_builtins(lead)
            if changed is not None:
                await changes.send(key=raw["lead_id"], value=structs.asdict(changed))

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("prefix")
    parser.add_argument("partitions", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-faust-") as data:
        worker = create_app(Cluster(arguments.brokers, arguments.prefix), arguments.partitions, data)
        sys.argv = [sys.argv[0], "worker", "--loglevel", "error", "--without-web"]
        worker.main()
