"""Leadstream's own commands as programs under measurement, each with a configuration of its own."""

import http.client
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from bench.processes import Program, running
from deploy.kafka.broker import free_port
from leadstream.settings import Settings
from streams.kafka.cluster import Cluster

STARTING_SECONDS = 90


def settings_of(data_dir: Path, cluster: Cluster | None, **more: object) -> Settings:
    """Of an installation of its own: its directory, its ports, its topics. `cluster` None: embedded."""
    kafka = {} if cluster is None else {"kafka": cluster.brokers, "kafka_prefix": cluster.prefix}
    return Settings(
        data_dir=data_dir,
        port=free_port(),
        worker_port=free_port(),
        projection_port=0,
        events_per_second=1_000_000,
        log_level="warning",
        **kafka,
        **more,
    )


@contextmanager
def command(settings: Settings, *words: str) -> Iterator[Program]:
    """`leadstream WORDS` with these settings."""
    with running([sys.executable, "-m", "leadstream", *words], environment_of(settings)) as program:
        yield program


def environment_of(settings: Settings) -> Mapping[str, str]:
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    if (url := settings.database_url) is not None:
        values["database_url"] = url.get_secret_value()
    return {f"LEADSTREAM_{name.upper()}": str(value) for name, value in values.items()}


def await_ready(program: Program, port: int, seconds: float = STARTING_SECONDS) -> float:
    """When it says at /ready that it is. Raises Failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        program.check()
        if is_ready(port):
            return time.time()
        time.sleep(0.02)
    raise program.failed(f"was not ready after {seconds:.0f} s")


def is_ready(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
