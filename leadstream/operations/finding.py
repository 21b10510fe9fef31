"""A finding of the doctor: the state of one subject, and a remedy if something is wrong."""

from typing import Literal, NamedTuple

Health = Literal["ok", "warn", "fail"]

LARGE_LAG_RECORDS = 10_000
LATE_SECONDS = 60
STUCK_SECONDS = 600


class Finding(NamedTuple):
    health: Health
    subject: str
    state: str
    remedy: str = ""


def lag_finding(subject: str, lag: int, unit: str, remedy: str) -> Finding:
    state = f"{lag:,} {unit}" if lag else "is up to date"
    return (
        Finding("warn", subject, state, remedy) if lag > LARGE_LAG_RECORDS else Finding("ok", subject, state)
    )


def age_finding(subject: str, count: int, seconds: float, unit: str, remedy: str) -> Finding:
    """Judges by the age of the oldest record: the count alone does not show whether anything reads them."""
    if not count:
        return Finding("ok", subject, "is up to date")
    state = f"{count:,} {unit}, the oldest for {span_text(seconds)}"
    health: Health = "fail" if seconds > STUCK_SECONDS else "warn" if seconds > LATE_SECONDS else "ok"
    return Finding(health, subject, state, "" if health == "ok" else remedy)


def span_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
