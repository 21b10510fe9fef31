"""What the doctor finds of one thing: how it is, and what to do where it is not well."""

from typing import Literal, NamedTuple

Health = Literal["ok", "warn", "fail"]

LARGE_LAG = 10_000


LATE_SECONDS = 60
STUCK_SECONDS = 600


class Finding(NamedTuple):
    health: Health
    what: str
    said: str
    remedy: str = ""


def lag_finding(what: str, lag: int, unit: str, remedy: str) -> Finding:
    said = f"{lag:,} {unit}" if lag else "is up to date"
    return Finding("warn", what, said, remedy) if lag > LARGE_LAG else Finding("ok", what, said)


def age_finding(what: str, left: int, seconds: float, unit: str, remedy: str) -> Finding:
    """By how long the oldest has waited: how many there are says little of whether they are being taken."""
    if not left:
        return Finding("ok", what, "is up to date")
    said = f"{left:,} {unit}, the oldest for {span(seconds)}"
    health: Health = "fail" if seconds > STUCK_SECONDS else "warn" if seconds > LATE_SECONDS else "ok"
    return Finding(health, what, said, "" if health == "ok" else remedy)


def span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
