"""Phrases and steps of rules as people say them: `hours since interaction` is "hours since the last interaction". Pure.

No name with an underscore, prefix or alias of a model's text is left in them.
"""

import re
from typing import Final

from scoring.features.words import words_of

_PHRASES: Final = {
    "email_opens_count": "e-mails opened",
    "email_clicks_count": "links clicked in e-mails",
    "activities_count": "interactions",
    "created_at": "day on which it was first seen",
    "session.seconds": "seconds on the site",
    "session.pages": "pages viewed",
    "session.clicks": "clicks",
    "session.important_clicks": "important clicks",
}
_ALIASES: Final = {
    "last_activity_days_ago": "days since interaction",
    "days_since_creation": "days since created",
}
_SINCE: Final = re.compile(r"(seconds|minutes|hours|days) since (\S+)")
_WINDOW: Final = re.compile(r"(.+) in (\d+) days?")
_TREND: Final = re.compile(r"trend of (\S+) over (\d+) days?")
_SUM: Final = re.compile(r"sum of purchase:([A-Z]{3})")


def words_of_phrase(text: str) -> str:
    """Any text has words."""
    plain = _ALIASES.get(text, text)
    if plain in _PHRASES:
        return _PHRASES[plain]
    if match := _SINCE.fullmatch(plain):
        return f"{match[1]} since {_last(match[2])}"
    if match := _SUM.fullmatch(plain):
        return f"purchases in {match[1]}"
    if match := _TREND.fullmatch(plain):
        return f"trend of {words_of(match[1])} over {_days(match[2])}"
    if match := _WINDOW.fullmatch(plain):
        return f"{words_of(match[1])} within {_days(match[2])}"
    return words_of(plain)


def elapsed_in_words(value: int | str, text: str) -> str | None:
    """3 hours since the last interaction, less than 1 hour since ...; None: the phrase is no time that has passed."""
    match = _SINCE.fullmatch(_ALIASES.get(text, text))
    if match is None:
        return None
    unit, since = match[1].removesuffix("s"), _last(match[2])
    if value in {0, "0"}:
        return f"less than 1 {unit} since {since}"
    return f"{value} {unit}{'' if value in {1, '1'} else 's'} since {since}"


def words_of_step(step: str) -> str:
    """Of a sequence: `page_viewed:/pricing` is "page viewed /pricing"."""
    name, colon, page = step.partition(":/")
    return f"{words_of(name)} /{page}" if colon else words_of(name)


def _last(signal: str) -> str:
    return "it was first seen" if signal == "created" else f"the last {words_of(signal)}"


def _days(count: str) -> str:
    return f"{count} day{'' if int(count) == 1 else 's'}"
