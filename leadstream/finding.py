"""What the doctor finds of one thing: how it is, and what to do where it is not well."""

from typing import Literal, NamedTuple

Health = Literal["ok", "warn", "fail"]

LARGE_LAG = 10_000


class Finding(NamedTuple):
    health: Health
    what: str
    said: str
    remedy: str = ""


def lag_finding(what: str, lag: int, unit: str, remedy: str) -> Finding:
    said = f"{lag:,} {unit}" if lag else "is up to date"
    return Finding("warn", what, said, remedy) if lag > LARGE_LAG else Finding("ok", what, said)
