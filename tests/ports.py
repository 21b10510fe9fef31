"""Ports for servers of tests. Each process of a run takes them from a range of its own, and none twice in a row: a server that
found its port taken by another test's server would leave the test talking to that one.
"""

import itertools
import os
import random
from collections.abc import Iterator

from deploy.kafka.broker import _is_free

PORTS_OF_PROCESS = 4_000
"""All ranges are below the ports that the kernel gives to outgoing connections."""


def _candidates() -> Iterator[int]:
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
    first = 12_000 + process * PORTS_OF_PROCESS
    ports = list(range(first, first + PORTS_OF_PROCESS))
    random.shuffle(ports)
    return itertools.cycle(ports)


_PORTS = _candidates()


def free_port() -> int:
    return next(port for port in _PORTS if _is_free(port))
