"""Which crawler or device a user agent string names: decided once, at the door.

crawlerdetect's list is matched by RE2, not by its own regular expressions: a hostile string of
1,024 characters costs those a tenth of a second, and RE2 less than a millisecond. Both verdicts are
kept per string in bounded memory. A string is never trusted further than this.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import re2
import ua_parser
from crawlerdetect.providers.crawlers import data as crawler_patterns
from crawlerdetect.providers.exclusions import data as exclusion_patterns

from schemas.envelope import Device

KEPT = 20_000
LONGEST = 1024
LOOKAROUND = "(?!"
"""What RE2 cannot match; the few patterns with it are simple enough for `re`."""
DESKTOPS = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD"})
PHONES = frozenset({"iOS", "Android", "Windows Phone", "HarmonyOS", "KaiOS", "BlackBerry OS", "Tizen"})


class Crawlers(NamedTuple):
    ignored: re2._Regexp
    named: re2._Regexp
    rest: tuple[re.Pattern[str], ...]


@lru_cache(maxsize=1)
def _crawlers() -> Crawlers:
    options = re2.Options()
    options.case_sensitive = False
    options.max_mem = 64 << 20
    return Crawlers(
        re2.compile("|".join(exclusion_patterns), options),
        re2.compile("|".join(each for each in crawler_patterns if LOOKAROUND not in each), options),
        tuple(re.compile(each, re.IGNORECASE) for each in crawler_patterns if LOOKAROUND in each),
    )


def load_patterns() -> None:
    """Compiles what the first string would otherwise wait for, some tenths of a second."""
    crawler_of("")
    device_of("")


@lru_cache(maxsize=KEPT)
def crawler_of(user_agent: str) -> str | None:
    """The crawler's name as it stands in the string, or None for a person's browser."""
    crawlers = _crawlers()
    left = crawlers.ignored.sub("", user_agent[:LONGEST].strip())
    match = crawlers.named.search(left)
    if match is not None:
        return str(match[0]).strip() or "crawler"
    return next((match[0] for each in crawlers.rest if (match := each.search(left))), None)


@lru_cache(maxsize=KEPT)
def device_of(user_agent: str) -> Device:
    parsed = ua_parser.parse(user_agent[:LONGEST])
    system = parsed.os.family if parsed.os else None
    return Device(
        type=_kind(user_agent, system, parsed.device),
        os=system,
        browser=parsed.user_agent.family if parsed.user_agent else None,
    )


def _kind(user_agent: str, system: str | None, device: ua_parser.Device | None) -> str:
    family = device.family if device else ""
    brand = (device.brand if device else None) or ""
    if re.search(r"\bTV\b|SmartTV|AppleTV|BRAVIA|Roku", user_agent):
        return "tv"
    if family == "iPad" or "Tablet" in brand or "Tablet" in user_agent:
        return "tablet"
    if system == "Android" and "Mobile" not in user_agent:
        return "tablet"
    if system in PHONES:
        return "mobile"
    return "desktop" if system in DESKTOPS else "other"
