"""Names of events, signals and profile fields as people write them: `email_sent` is "e-mail sent"."""

from collections.abc import Sequence
from typing import Final

_WORDS: Final = {
    "email": "e-mail",
    "sms": "SMS",
    "qr": "QR",
    "crm": "CRM",
    "cta": "call to action",
    "utm": "UTM",
}


def words_of(name: str) -> str:
    """A name without its underscores and prefix; any text has words."""
    plain = name.removeprefix("profile.").removeprefix("custom:")
    return " ".join(_WORDS.get(word, word) for word in plain.replace("_", " ").split())


def any_of_words(names: Sequence[str]) -> str:
    """e-mail sent, SMS sent or call made"""
    *others, last = [words_of(name) for name in names]
    return f"{', '.join(others)} or {last}" if others else last
