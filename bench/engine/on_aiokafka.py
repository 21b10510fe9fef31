"""The common job's stages in our engine, hosted by a bare aiokafka consumer."""

import argparse
import asyncio
import signal

from bench.engine.job import Leads, Sessions
from bench.processes import now_ms, say_first
from streams.kafka.bare_host import run
from streams.kafka.cluster import Cluster


async def serve(cluster: Cluster, partitions: int, buckets: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stages = [Sessions(say_first), Leads()]
    await run(cluster, stages, partitions=partitions, buckets=buckets, now=now_ms, stop=stop)


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("brokers")
    asked.add_argument("prefix")
    asked.add_argument("partitions", type=int)
    asked.add_argument("buckets", type=int)
    given = asked.parse_args()
    asyncio.run(serve(Cluster(given.brokers, given.prefix), given.partitions, given.buckets))
