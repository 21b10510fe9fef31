"""Kafka Streams' side of the common job: built once by Maven into the user's cache, outside the tree."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent / "kafka_streams"


class NotBuilt(RuntimeError):
    """The rival cannot be run; the message says why and what to do."""


def common_job() -> Path:
    """The directory that holds the program and its jars. Raises NotBuilt."""
    sources = sorted(path for path in SOURCES.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leadstream"
    built = cache / f"bench-kafka-streams-{digest}"
    if (built / "common-job.jar").exists():
        return built
    if shutil.which("mvn") is None or shutil.which("java") is None:
        raise NotBuilt("Kafka Streams needs Java 17 and Maven: install both, or leave it out with --without.")
    draft = cache / f".draft-{os.getpid()}"
    try:
        shutil.copytree(SOURCES, draft / "sources")
        done = subprocess.run(
            ["mvn", "-q", "-B", f"-Dbuilt={draft / 'built'}", "package"],
            cwd=draft / "sources",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise NotBuilt(f"Maven could not build Kafka Streams' side:\n{done.stdout.decode()[-3000:]}")
        shutil.rmtree(built, ignore_errors=True)
        (draft / "built").rename(built)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return built


def java(heap: str | None) -> Sequence[str]:
    """How the program is run, up to its arguments."""
    built = common_job()
    limit = [f"-Xmx{heap}"] if heap else []
    return ["java", *limit, "-cp", f"{built}/common-job.jar:{built}/libs/*", "CommonJob"]
