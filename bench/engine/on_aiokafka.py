"""The common job's stages in our engine, hosted by a bare aiokafka consumer."""

import argparse
import asyncio
import signal

from bench.engine.job import Leads, Sessions
from bench.processes import now_ms, say_first
from streams.kafka.bare_host import run_bare_worker
from streams.kafka.cluster import Cluster


async def serve(cluster: Cluster, partitions: int, buckets: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stages = [Sessions(say_first), Leads()]
    await run_bare_worker(cluster, stages, partitions=partitions, buckets=buckets, now=now_ms, stop=stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("prefix")
    parser.add_argument("partitions", type=int)
    parser.add_argument("buckets", type=int)
    arguments = parser.parse_args()
    asyncio.run(serve(Cluster(arguments.brokers, arguments.prefix), arguments.partitions, arguments.buckets))
