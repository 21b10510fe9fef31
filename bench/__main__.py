"""Ratios, measured side by side in one run: `python -m bench [NAME [options]]`, or `make bench` for all.

import      events imported durably, folded and projected, as a ratio to COPY of the same rows
one-lead    what one more event of a lead costs after 10, 1,000 and 100,000 of them
gateway     requests a second within the server's limits, as a ratio to uvicorn alone
scoring     an event by all models, a conclusion by each, a lead of a what-if
engine      a small two-stage job on our engine, on Kafka Streams, and on Faust as shipped
pipeline    the real folds: from `events` to scores and to rows, on Kafka and in embedded mode
latency     from an event's acknowledgement to its score in the database, on Kafka and in embedded mode
restart     from the start of a killed worker until it is ready again
analytics   reports over a million engagements of 100,000 leads, each beside its aim
as-of       lists and one busy lead as of a moment that is over, beside those of now
pages       what the pages weigh, how soon they show rows, and what 50 open ones cost
versus      one measure of CPU in two checkouts, turn by turn

Absolute times mean little on a shared machine; what counts is a ratio to something known, taken in
the same run. `python -m bench NAME --help` says what can be chosen; bench/README.md how to read it.
"""

import argparse
import logging
import signal
import sys
from importlib import import_module

from bench.engine.java import NotBuilt
from bench.processes import Failed
from deploy.kafka.broker import BrokerFailed
from leadstream.console import Failure
from leadstream.logs import configure_logs

BENCHMARKS = {
    "import": "bench.durable_import",
    "one-lead": "bench.one_lead",
    "gateway": "bench.gateway",
    "scoring": "bench.scoring",
    "engine": "bench.engine.run",
    "pipeline": "bench.pipeline",
    "latency": "bench.latency",
    "restart": "bench.restart",
    "analytics": "bench.analytics",
    "as-of": "bench.as_of",
    "pages": "bench.pages",
    "versus": "bench.versus",
}


def main(words: list[str]) -> None:
    if words and words[0] not in BENCHMARKS:
        help_requested = words[0] in {"-h", "--help"}
        print(__doc__ if help_requested else f"There is no {words[0]!r}, only {', '.join(BENCHMARKS)}.")
        raise SystemExit(0 if help_requested else 2)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # so that what was started is stopped, in the background, too
        signal.signal(number, signal.default_int_handler)
    configure_logs("error")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a fresh topic's leader takes a moment
    for name in words[:1] or BENCHMARKS:
        module = import_module(BENCHMARKS[name])
        parser = argparse.ArgumentParser(
            prog=f"python -m bench {name}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.options(parser)
        try:
            module.run(parser.parse_args(words[1:]))
        except (Failed, Failure, BrokerFailed, NotBuilt) as failure:
            raise SystemExit(str(failure)) from failure


if __name__ == "__main__":
    main(sys.argv[1:])
