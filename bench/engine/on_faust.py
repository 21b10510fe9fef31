"""The common job's stages in our engine, hosted by Faust."""

import argparse
import tempfile
from pathlib import Path

from bench.engine.job import Leads, Sessions
from bench.processes import now_ms, say_first
from streams.kafka.cluster import Cluster
from streams.kafka.faust_host import LeadstreamApp, run_worker

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("prefix")
    parser.add_argument("buckets", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-faust-") as data:
        app = LeadstreamApp(
            Cluster(arguments.brokers, arguments.prefix),
            [Sessions(say_first), Leads()],
            buckets=arguments.buckets,
            worker_id=None,
            port=None,
            data_dir=Path(data),
            now=now_ms,
        )
        run_worker(app, log_level="warning")
