"""The ledger of erasures: a file outside of the database, so that an older backup brings nobody back.

One line of JSON for each erasure, with keyed hashes only. A start reads it: what the database does not know is applied
again before the first answer. What the ledger lacks is added to it.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec

from leadstream.console import Failure
from projections.erasures import REGISTERED, Erasure

REQUESTED_BY_LEDGER = "ledger"
"""Who requested what is applied again."""


class LedgerLine(msgspec.Struct, omit_defaults=True):
    erasure_id: str
    tenant: str
    salt: str
    hashes: list[str]
    requested_at: datetime


def add_to_ledger(path: Path, erasures: Iterable[Erasure]) -> None:
    """On disk when it returns. Raises Failure."""
    lines = [
        msgspec.json.encode(
            LedgerLine(each.erasure_id, each.tenant, each.salt, each.hashes, each.requested_at)
        )
        + b"\n"
        for each in erasures
    ]
    if not lines:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # a crash has cut the last line
                    lines.insert(0, b"\n")
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        raise Failure(
            f"LEADSTREAM_ERASURES_FILE: {path} cannot be written ({cause.strerror}). Without it, a restored backup would bring "
            "the person back: make the file writable, or name another."
        ) from cause


def read_ledger(path: Path) -> list[Erasure]:
    """The newest line of each erasure. Raises Failure for a line that is no erasure, but for a last one that was cut off."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as cause:
        raise Failure(f"LEADSTREAM_ERASURES_FILE: {path} cannot be read ({cause.strerror}).") from cause
    newest: dict[str, Erasure] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            read = msgspec.json.decode(line, type=LedgerLine)
        except msgspec.DecodeError as cause:
            if not line.endswith(b"}"):
                continue  # a crash has cut it; the erasure was not answered, and is in the database if it goes on
            raise Failure(
                f"LEADSTREAM_ERASURES_FILE: line {number} of {path} is no erasure ({cause}). Restore the file from a copy: "
                "without it, people who were erased could come back."
            ) from cause
        newest[read.erasure_id] = Erasure(
            read.erasure_id,
            read.tenant,
            read.salt,
            read.hashes,
            read.requested_at,
            REQUESTED_BY_LEDGER,
            REGISTERED,
        )
    return list(newest.values())
