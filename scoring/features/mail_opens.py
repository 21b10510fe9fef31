"""When the opening of a mail is nobody's.

Gmail and Yahoo fetch a mail's pictures through a proxy of theirs. Mostly they do so when the person opens the mail,
but sometimes as soon as the mail arrives. So a fetch through a proxy within seconds of the sending is a prefetch.
"""

import re
from typing import Final

PREFETCH_MS: Final = 10_000
"""Milliseconds after the last mail to a lead, in which a proxy's fetch opens nothing."""

_IMAGE_PROXY = re.compile(r"\bggpht\.com|YandexImageResizer|(?:image|mail)[ _-]?proxy", re.IGNORECASE)


def is_image_proxy(user_agent: str) -> bool:
    """Does a mail service fetch the pictures of a mail for its reader?"""
    return _IMAGE_PROXY.search(user_agent) is not None


def is_prefetch(user_agent: str, opened_at: int, last_sent_at: int | None) -> bool:
    """Did a proxy fetch the pictures of a mail before anybody can have opened it? Times in milliseconds."""
    if last_sent_at is None or not 0 <= opened_at - last_sent_at <= PREFETCH_MS:
        return False
    return is_image_proxy(user_agent)
