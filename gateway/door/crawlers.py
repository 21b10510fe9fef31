"""Which program without a person a user agent string names: a crawler, scanner, link preview, automated browser.

Three lists decide. Matomo's (device_detector) is exact and comes first. crawler-user-agents and crawlerdetect name
many more, but with plain words that phones and apps have in their names, too ("Sonic", "Word"). So the former does
not apply to a phone's browser, and the latter applies only to strings of no browser and no app. What no list names
is a crawler if it gives the address of its operator, which browsers do not. Verdicts are cached per string in bounded
memory, and a string is never trusted further than this.

Mails have rules of their own, because many programs stand between a person and a mail: see `mail_crawler_of`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from itertools import chain
from string import punctuation
from typing import Any, Final, NamedTuple, cast

import re2
import yaml_rs
from crawlerdetect.providers.crawlers import data as crawlerdetect_patterns
from crawlerdetect.providers.exclusions import data as exclusion_patterns
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from gateway.door.devices import CACHED_USER_AGENTS, LONGEST_USER_AGENT, WORD_BOUND_FORM
from gateway.door.pattern_list import PatternList, compile_ignoring_case
from scoring.features.mail_opens import is_image_proxy

AUTOMATED_BROWSER_TAG: Final = "browser-automation"
"""crawler-user-agents' tag of Playwright, HeadlessChrome and their like."""
MORE_AUTOMATED_BROWSERS: Final = (
    "Cypress/",
    "HtmlUnit",
    "SlimerJS",
    "WebDriver",
    r"Headless[A-Z]\w+",
    "(?:Windows)?PowerShell/",
)
MORE_PROGRAMS: Final = (
    r"(?:feroxbuster|LeakIX|Freshping|Line-poker|Vegeta|Locust|Lumar|rest-client)(?:/|$)",
)
OF_PEOPLE: Final = frozenset({"Apple Core Media", "Safari View Service", "MatomoTracker", "uTorrent"})
"""Entries of Matomo's list of HTTP libraries that people's apps name."""
ANY_WORD_PART: Final = "[a-z0-9_-]*"
GENERIC_BOT_NAME: Final = "Generic Bot"
"""Matomo's name of those that it recognises by a word such as bot."""
LONGEST_CRAWLER_NAME: Final = 64
WHOLE_WORD_FORM: Final = r"(?:^|[^A-Za-z0-9_-])(?:{})"
APPLE_PREFETCH: Final = "Apple Mail Privacy Protection"
GMAIL_PREFETCH: Final = "Gmail prefetch"
IMAGE_PROXY: Final = "image proxy"

_PHONE_SYSTEM = compile_ignoring_case(r"Android|iPhone|iPad|iPod|Windows Phone|HarmonyOS|KAIOS")
_STATES_CONTACT = compile_ignoring_case(r"compatible|https?:|www\.|@")
"""A crawler gives its address; a phone does not."""
_OPERATOR = compile_ignoring_case(r"\+ ?(?:https?://|mailto:|www\.)([^\s/?#;,()]+)")
"""How a crawler that calls itself a browser names its operator."""
_ADDRESS = compile_ignoring_case(r"https?://([^\s/?#;,()]+)")
_PHONE_MODEL = compile_ignoring_case(r"\([^()]*(?:Android|Adr)[ /-]?[0-9][^()]*\)")
_BROWSER = compile_ignoring_case(r"^(?:Mozilla|Opera|Dalvik)/|\bFBAN/|Mobile Safari/")
_GMAIL_PREFETCH = compile_ignoring_case(r"Edge/12\.246 (?:Mozilla/5\.0|Gmail-content-sampling)$")
_MAIL_GATEWAY = compile_ignoring_case(
    r"Barracuda|Proofpoint|PFPT|URL ?Defen[sc]e|Mimecast|Safe ?Links|BingPreview|Microsoft[ -]Defender|Symantec"
    r"|MessageLabs|Forcepoint|Websense|Trend ?Micro|FireEye|Trellix|IronPort|Forti(?:Mail|Guard|net|Sandbox)|Bitdefender"
    r"|Darktrace|Sophos"
    r"|Cloudmark|Vade ?Secure|Hornetsecurity|SpamTitan|Avanan|Ironscales|Cyren|Clearswift|MailGuard|MailMarshal"
    r"|Retarus|NoSpamProxy|Perception ?Point|Libraesva|Cisco[ -]?(?:Secure|Email)|Z-?Scaler|VirusTotal"
    r"|urlscan|SpamAssassin|rspamd|Check ?Point|Cloudflare-Area|Palo ?Alto|Exchange Online|365 ATP"
    r"|link[ -]?(?:scanner|checker|following)"
)
"""Security gateways, which open the links and pictures of a mail before it is delivered."""
_MAIL_PROGRAM = compile_ignoring_case(
    r"ms-office|MSOffice|Microsoft (?:Office|Outlook)|Outlook|Thunderbird|Lightning/|Apple ?Mail|^Mail/|Proton ?Mail"
    r"|Airmail|Spark|eM ?Client|Lotus-Notes|Postbox|SeaMonkey|Evolution/|KMail|GmailAndroid|YahooMobileMail|The Bat!"
)


class CrawlerLists(NamedTuple):
    exact: PatternList
    """Matomo's, by name."""
    generic: PatternList
    """Matomo's, by a word such as bot or crawl."""
    automated: PatternList
    plain: PatternList
    """All of crawler-user-agents."""
    programs: PatternList
    """crawlerdetect's, and Matomo's HTTP libraries."""
    apps: PatternList
    """Programs of people that are no browsers."""
    ignored: re2._Regexp
    """What crawlerdetect takes out of a string before it looks."""


def load_crawlers() -> None:
    """Compiles the lists, which the first string would otherwise wait for."""
    _crawler_lists()


@lru_cache(maxsize=CACHED_USER_AGENTS)
def crawler_of(user_agent: str) -> str | None:
    """The crawler's name as it stands in the string; None for a person's browser or app."""
    agent = user_agent[:LONGEST_USER_AGENT].strip()
    lists = _crawler_lists()
    without_model = agent if _STATES_CONTACT.search(agent) else _PHONE_MODEL.sub("(Android)", agent)
    name = (
        _matched_name(lists.exact, agent)
        or _matched_name(lists.generic, without_model)
        or _matched_name(lists.automated, without_model)
    )
    if name or (_PHONE_SYSTEM.search(agent) and not _STATES_CONTACT.search(agent)):
        return name
    if name := _matched_name(lists.plain, without_model):
        return name
    if lists.apps.first(agent) is not None:
        return None
    if _BROWSER.search(agent):
        return _operator(_OPERATOR, agent)
    return _matched_name(lists.programs, str(lists.ignored.sub("", agent)).strip()) or _operator(
        _ADDRESS, agent
    )


@lru_cache(maxsize=CACHED_USER_AGENTS)
def mail_crawler_of(user_agent: str, *, opened: bool) -> str | None:
    """The program that opened a mail, or followed a link in it, without a person; None: a person did.

    A person opens a mail through the picture proxy of Gmail or Yahoo, or in a mail program. Apple fetches the
    pictures before anybody opens the mail; Gmail and security gateways fetch pictures and links.
    """
    agent = user_agent[:LONGEST_USER_AGENT].strip()
    if is_image_proxy(agent):
        return None if opened else crawler_of(user_agent) or IMAGE_PROXY
    if opened and agent == "Mozilla/5.0":
        return APPLE_PREFETCH
    if _GMAIL_PREFETCH.search(agent):
        return GMAIL_PREFETCH
    if gateway := _MAIL_GATEWAY.search(agent):
        return str(gateway[0])
    return None if _MAIL_PROGRAM.search(agent) else crawler_of(user_agent)


def _operator(pattern: re2._Regexp, agent: str) -> str | None:
    match = pattern.search(agent)
    return str(match[1])[:LONGEST_CRAWLER_NAME] if match else None


def _matched_name(patterns: PatternList, text: str) -> str | None:
    index = patterns.first(text)
    if index is None:
        return None
    start, end = patterns.span(index, text)
    while start and text[start].isalnum() and (text[start - 1].isalnum() or text[start - 1] in "_-"):
        start -= 1
    return text[start:end].strip(punctuation + " ")[:LONGEST_CRAWLER_NAME] or "crawler"


@lru_cache(maxsize=1)
def _crawler_lists() -> CrawlerLists:
    bots = _read_list("bots")
    apps = [
        each
        for name in ("mobile_apps", "mediaplayers", "pim", "feed_readers")
        for each in _read_list(f"client/{name}")
    ]
    libraries = [each["regex"] for each in _read_list("client/libraries") if each["name"] not in OF_PEOPLE]
    automated = [
        each["pattern"] for each in CRAWLER_USER_AGENTS_DATA if AUTOMATED_BROWSER_TAG in each.get("tags", ())
    ]
    return CrawlerLists(
        PatternList(
            WORD_BOUND_FORM.format(each["regex"]) for each in bots if each["name"] != GENERIC_BOT_NAME
        ),
        PatternList(_with_word_bounds(each["regex"]) for each in bots if each["name"] == GENERIC_BOT_NAME),
        PatternList(
            (WHOLE_WORD_FORM.format(each) for each in (*automated, *MORE_AUTOMATED_BROWSERS)),
            ignore_case=False,
        ),
        PatternList((each["pattern"] for each in CRAWLER_USER_AGENTS_DATA), ignore_case=False),
        PatternList(chain(crawlerdetect_patterns, map(WORD_BOUND_FORM.format, (*libraries, *MORE_PROGRAMS)))),
        PatternList(WORD_BOUND_FORM.format(each["regex"]) for each in apps),
        compile_ignoring_case("|".join(exclusion_patterns)),
    )


def _with_word_bounds(pattern: str) -> str:
    """The pattern with word bounds. A pattern that begins with ANY_WORD_PART gets no bound, and loses that part: this matches
    the same texts, and avoids quadratic time.
    """
    return (
        pattern.removeprefix(ANY_WORD_PART)
        if pattern.startswith(ANY_WORD_PART)
        else WORD_BOUND_FORM.format(pattern)
    )


def _read_list(name: str) -> Sequence[Mapping[str, Any]]:
    file = resources.files("device_detector") / f"regexes/upstream/{name}.yml"
    return cast("Sequence[Mapping[str, Any]]", yaml_rs.loads(file.read_text(encoding="utf-8")))
