"""Which channel brought a person: decided once, at the door, and stored in the event with the edition of the lists.

The tags of the link decide first, by Google's default channel grouping as it is published
(support.google.com/analytics/answer/9756891), with AI assistants added; then a click on an advertisement; then the
referring page, by the lists in gateway/channels. The own site, payment pages and sign-in pages are nobody's origin.

It differs from Google's rules in three points. A medium that names e-mail, affiliates, SMS or audio wins over the
site in utm_source. A paid medium that names its kind (paid_social) needs no known site. A campaign's name
makes organic shopping only if nothing else decides.
"""

import re
import tomllib
from collections.abc import Collection, Iterator
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from gateway.door.page_address import PageAddress, is_path, public_suffix_of, read_page_address, site_of
from schemas.envelope import Campaign, Context, Event, TrafficOrigin
from schemas.events import AdClicked

INTERNAL_GROUP: Final = "Internal"
UNASSIGNED_GROUP: Final = "Unassigned"
DIRECT_GROUP: Final = "Direct"
CHANNEL_OF_GROUP: Final = {
    "Direct": "direct",
    "Cross-network": "paid",
    "Paid Shopping": "paid",
    "Paid Search": "paid",
    "Paid Social": "paid",
    "Paid Video": "paid",
    "Display": "display",
    "Paid Other": "paid",
    "AI Assistants": "ai_assistant",
    "Organic Shopping": "shopping",
    "Organic Social": "social",
    "Organic Video": "video",
    "Organic Search": "search",
    "Referral": "referral",
    "Email": "email",
    "Affiliates": "affiliate",
    "Audio": "audio",
    "SMS": "sms",
    "Mobile Push Notifications": "push",
    "Unassigned": "unassigned",
    "Internal": "internal",
}
"""The groups of the default channel grouping, and the channel of each. Internal: the visit goes on."""
_GROUP_OF_LIST: Final = {
    "ai_assistant": "AI Assistants",
    "display": "Display",
    "email": "Email",
    "paid_search": "Paid Search",
    "paid_social": "Paid Social",
    "referral": "Referral",
    "search": "Organic Search",
    "search_pages": "Organic Search",
    "shopping": "Organic Shopping",
    "social": "Organic Social",
    "video": "Organic Video",
}
_LISTS_WITHOUT_ORIGIN: Final = frozenset({"payment", "signin"})
_PAID_GROUP_OF_LIST: Final = {
    "shopping": "Paid Shopping",
    "search": "Paid Search",
    "social": "Paid Social",
    "video": "Paid Video",
}
_GROUP_OF_MEDIUM: Final = {
    medium: group
    for group, mediums in {
        "Email": "email e_mail mail newsletter",
        "Affiliates": "affiliate affiliates partner",
        "SMS": "sms",
        "Audio": "audio",
    }.items()
    for medium in mediums.split()
}
"""Mediums that decide alone."""
_SOCIAL_MEDIUMS: Final = frozenset({"social", "social_network", "social_media", "sm", "organic_social"})
_SEARCH_MEDIUMS: Final = frozenset({"organic", "organic_search"})
_REFERRAL_MEDIUMS: Final = frozenset({"referral", "refer", "app", "link"})
_DISPLAY_MEDIUMS: Final = frozenset({"display", "banner", "expandable", "interstitial", "cpm"})
_PAID_MEDIUM: Final = re.compile(r".*cp.*|ppc|retargeting|paid.*|ads?", re.DOTALL)
_SHOP_CAMPAIGN: Final = re.compile(r"(?:[^a-df-z]|^)shop|shopping")
_SITE_WITH_ADS_SUFFIX: Final = re.compile(r"(.+?)[-_. ]?ads?")
_STRONG_GROUPS: Final = frozenset(
    {"Cross-network", "Display", "Email", "Affiliates", "SMS", "Audio", "Mobile Push Notifications"}
)
"""An advertiser's click id in the address does not change these."""
_HOST_PREFIX: Final = re.compile(r"^(?:www?\d*|m|mobile)\.")
"""www.google.com, m.baidu.com: the same pages as without the first label."""
_SIGN_IN_HOST: Final = re.compile(r"log-?in|sign-?in|sso|auth|oauth2?|idp|accounts|acs\d*|3d-?s(?:ecure)?\d*")
"""First labels of hosts that people only pass through: to sign in, or to confirm a payment (3-D Secure)."""
_WEBMAIL_LABELS: Final = frozenset({"mail", "webmail", "email"})
_SEARCH_PARAMETERS: Final = frozenset("q p query text wd word keyword searchfor".split())  # noqa: SIM905 - as a line


class SearchPages(NamedTuple):
    """Which pages of an engine's host show search results."""

    parameters: Collection[str] = _SEARCH_PARAMETERS
    paths: tuple[str, ...] = ()


class ChannelLists(NamedTuple):
    """The lists of gateway/channels. `edition` is that of own.toml with a hash of both files."""

    edition: str
    hosts: dict[str, tuple[tuple[str, str], ...]]
    """Host to (beginning of the path, list), longest beginning first; `{}` stands for a country's part."""
    engines: dict[str, tuple[tuple[str, SearchPages], ...]]
    several_services: frozenset[str]
    names: dict[str, str]
    click_ids: dict[str, str]


class OwnHosts(NamedTuple):
    """What is known of the own site: the hosts of the page and of the request, and the sites of the setting."""

    pages: tuple[str, ...]
    sites: Collection[str]

    def include(self, host: str) -> bool:
        site = site_of(host)
        return any(host == page or site == site_of(page) for page in self.pages) or any(
            level in self.sites for level in host_and_parents(host)
        )


@lru_cache(maxsize=1)
def channel_lists() -> ChannelLists:
    folder = files("gateway") / "channels"
    own_text, public_text = ((folder / name).read_text("utf-8") for name in ("own.toml", "public.toml"))
    own, public = tomllib.loads(own_text), tomllib.loads(public_text)
    digest = blake2b((own_text + public_text).encode(), digest_size=4).hexdigest()
    hosts: dict[str, dict[str, str]] = {}
    for words, listed in chain(_words_of_lists(own["hosts"]), _words_of_lists(public["hosts"])):
        host, prefix = _host_and_list_key(words)
        hosts.setdefault(host, {}).setdefault(prefix, listed)
    engines: dict[str, dict[str, SearchPages]] = {}
    for engine in public["engines"]:
        pages = SearchPages(frozenset(engine["params"].split()), tuple(engine["paths"].split()))
        for word in engine["hosts"].split():
            host, prefix = _host_and_list_key(word)
            engines.setdefault(host, {}).setdefault(prefix, pages)
    names = dict(reversed([*_words_of_lists(own["names"]), *_words_of_lists(public["names"])]))
    return ChannelLists(
        f"{own['edition']}.{digest}",
        {host: _longest_first(entries) for host, entries in hosts.items()},
        {host: _longest_first(entries) for host, entries in engines.items()},
        frozenset(own["several_services"]["names"].split()),
        names,
        dict(_words_of_lists(own["click_ids"])),
    )


def load_channels() -> None:
    """Reads what the first event would otherwise wait for, some tenths of a second."""
    _list_of_address(PageAddress("www.acme.example"))


def _words_of_lists(lists: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((word, name) for name, words in lists.items() for word in words.split())


def _host_and_list_key(word: str) -> tuple[str, str]:
    host, slash, path = word.partition("/")
    return host.removeprefix("www."), slash + path


def _longest_first(entries: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(entries.items(), key=lambda entry: -len(entry[0])))


def traffic_origin_of(
    event: Event, context: Context | None, tags: dict[str, str], own: OwnHosts, *, has_page: bool
) -> TrafficOrigin | None:
    """Where the person came from, by this event; None if the event does not speak of it."""
    campaign = context.campaign if context else None
    group = group_of_tags(campaign, tags)
    source = campaign.source if campaign else None
    if group != UNASSIGNED_GROUP:
        return _traffic_origin(group, source, "link")
    if isinstance(event, AdClicked):
        return _traffic_origin(
            _PAID_GROUP_OF_LIST.get(_list_of_name(event.network) or "", "Paid Other"), event.network, "event"
        )
    referrer = (context.referrer or "").strip() if context else ""
    came_from = read_page_address(referrer)
    listed = _list_of_address(came_from) if came_from else None
    if came_from is not None and listed != "nothing":
        name = came_from.host.removeprefix("www.")
        return _traffic_origin(_group_of_referrer(came_from, listed, own), name, "referrer")
    if is_path(referrer):
        return _traffic_origin(INTERNAL_GROUP, None, "referrer")
    if campaign is not None:
        return _traffic_origin(UNASSIGNED_GROUP, source, "link")
    return _traffic_origin(DIRECT_GROUP, None, None) if has_page or referrer else None


def _traffic_origin(group: str, source: str | None, evidence: str | None) -> TrafficOrigin:
    return TrafficOrigin(
        channel=CHANNEL_OF_GROUP[group],
        group=group,
        source=source,
        evidence=evidence,
        edition=channel_lists().edition,
    )


def group_of_tags(campaign: Campaign | None, tags: dict[str, str]) -> str:
    """The default channel group by the tags of the link and the click ids of advertisers."""
    group = _group_of_campaign(campaign) if campaign is not None else UNASSIGNED_GROUP
    click = (
        next((listed for name, listed in channel_lists().click_ids.items() if name in tags), None)
        if tags
        else None
    )
    if click is None or group in _STRONG_GROUPS or group.startswith("Paid"):
        return group
    site = _list_of_name(campaign.source) if campaign is not None else None
    return _PAID_GROUP_OF_LIST.get(site or "", _GROUP_OF_LIST[click]) if click != "display" else "Display"


def _group_of_campaign(campaign: Campaign) -> str:
    """Google's rules in their order, but for the points in the module's docstring."""
    source = (campaign.source or "").strip().casefold()
    medium = _normalized_medium(campaign.medium)
    name = (campaign.name or "").casefold()
    if source in {"direct", "(direct)"} and not medium:
        return DIRECT_GROUP
    if "cross-network" in name:
        return "Cross-network"
    listed = _list_of_name(source)
    if not medium and listed is None and (site := _list_of_advertised_site(source)) is not None:
        listed, medium = site, "cpc"
    decided = (
        _paid_group(listed, medium, name)
        or _GROUP_OF_MEDIUM.get(medium)
        or _organic_group(listed, medium)
        or _group_by_source_alone(source, medium, listed)
    )
    if decided is not None:
        return decided
    return "Organic Shopping" if _SHOP_CAMPAIGN.search(name) else UNASSIGNED_GROUP


def _normalized_medium(medium: str | None) -> str:
    return (medium or "").strip().casefold().replace("-", "_").replace(" ", "_")


def _paid_group(listed: str | None, medium: str, name: str) -> str | None:
    is_paid = _PAID_MEDIUM.fullmatch(medium) is not None
    if is_paid and _SHOP_CAMPAIGN.search(name):
        return "Paid Shopping"
    if is_paid and listed in _PAID_GROUP_OF_LIST:
        return _PAID_GROUP_OF_LIST[listed]
    if medium in _DISPLAY_MEDIUMS:
        return "Display"
    if is_paid:
        return next((group for kind, group in _PAID_GROUP_OF_LIST.items() if kind in medium), "Paid Other")
    return None


def _organic_group(listed: str | None, medium: str) -> str | None:
    if listed == "ai_assistant" or medium in {"ai", "ai_assistant"}:
        return "AI Assistants"
    if listed == "shopping":
        return "Organic Shopping"
    if listed == "social" or medium in _SOCIAL_MEDIUMS:
        return "Organic Social"
    if listed == "video" or "video" in medium:
        return "Organic Video"
    if listed in {"search", "search_pages"} or medium in _SEARCH_MEDIUMS:
        return "Organic Search"
    return "Referral" if medium in _REFERRAL_MEDIUMS else None


def _group_by_source_alone(source: str, medium: str, listed: str | None) -> str | None:
    if listed in {"email", "display", "paid_search"}:
        return _GROUP_OF_LIST[listed]
    if "newsletter" in source or "newsletter" in medium or "email" in medium:
        return "Email"
    if source == "sms":
        return "SMS"
    if medium.endswith("push") or "mobile" in medium or "notification" in medium or source == "firebase":
        return "Mobile Push Notifications"
    return None


def _list_of_advertised_site(source: str) -> str | None:
    """The list of the site in `google_ads`, `fb-ads`."""
    match = _SITE_WITH_ADS_SUFFIX.fullmatch(source)
    return "search" if source == "adwords" else _list_of_name(match[1]) if match else None


def _list_of_name(name: str | None) -> str | None:
    """The list of what a producer calls a site: `google`, `Hacker News`, `www.facebook.com`."""
    name = (name or "").strip().casefold()
    listed = channel_lists().names.get(name.replace(" ", "_"))
    if listed is not None:
        return None if listed == "nothing" else listed
    address = read_page_address(name) if "." in name else None
    return None if address is None else _list_of_address(address)


def _group_of_referrer(came_from: PageAddress, listed: str | None, own: OwnHosts) -> str:
    """An unlisted host is a referral only if the host of the own site is known: it might be the own site itself."""
    if (
        listed in _LISTS_WITHOUT_ORIGIN
        or own.include(came_from.host)
        or own.include(_host_of_app_maker(came_from))
    ):
        return INTERNAL_GROUP
    if listed is not None:
        return _GROUP_OF_LIST[listed]
    site = site_of(came_from.host)
    first, _, rest = came_from.host.partition(".")
    if came_from.host != site and not came_from.is_app and _SIGN_IN_HOST.fullmatch(first):
        return INTERNAL_GROUP
    if first in _WEBMAIL_LABELS and rest == site:
        return "Email"
    return "Referral" if own.pages or own.sites or came_from.is_app else UNASSIGNED_GROUP


def _host_of_app_maker(address: PageAddress) -> str:
    """The host of an app's maker: facebook.com of com.facebook.katana; of a page its own host."""
    return ".".join(reversed(address.host.split(".")[:2])) if address.is_app else address.host


@lru_cache(maxsize=10_000)
def host_and_parents(host: str) -> tuple[str, ...]:
    """The host and its parents up to its registrable domain: a.b.acme.de, b.acme.de, acme.de."""
    labels, site = host.split("."), site_of(host)
    above = len(labels) - site.count(".")
    return tuple(".".join(labels[at:]) for at in range(max(above, 1)))


@lru_cache(maxsize=4_000)
def _list_of_address(address: PageAddress) -> str | None:
    """The list of the address; the nearest of its host's parents decides. An app without an entry is its maker's."""
    for level in host_and_parents(address.host):
        for key in _list_keys_of(level):
            entries = channel_lists().hosts.get(key, ())
            listed = next((listed for prefix, listed in entries if address.path.startswith(prefix)), None)
            if listed is not None and listed != "search":
                return listed
            if _shows_search_results(address, level, key, listed):
                return "search"
    maker = _host_of_app_maker(address)
    return None if maker == address.host else _list_of_app_maker(maker)


def _list_of_app_maker(host: str) -> str | None:
    listed = _list_of_address(PageAddress(host))
    return None if listed == "search" else listed


def _list_keys_of(host: str) -> Iterator[str]:
    """The host as the lists may write it: google.co.uk, google.{}; fr.bing.com, {}.bing.com."""
    yield host
    suffix = public_suffix_of(host)
    if suffix == "com" or len(suffix.rpartition(".")[2]) == 2:
        yield host.removesuffix(suffix) + "{}"
    first, _, rest = host.partition(".")
    if len(first) == 2:
        yield "{}." + rest


def _shows_search_results(address: PageAddress, level: str, key: str, listed: str | None) -> bool:
    """Does the page show results of a search? Most engines send their host alone as referrer, which is enough for the
    host of the list and for hosts below search.acme.example; other hosts of an engine need a query.
    """
    lists = channel_lists()
    pages = next(
        (pages for prefix, pages in lists.engines.get(key, ()) if address.path.startswith(prefix)), None
    )
    if pages is None:
        if listed is None:
            return False
        pages = SearchPages()
    is_listed_host = (
        level == address.host or level == _HOST_PREFIX.sub("", address.host) or level != site_of(level)
    )
    if not is_listed_host and level.partition(".")[0] in lists.several_services:
        return False
    path, query = address.path, {name for name, _ in parse_qsl(address.query)}
    return (
        (is_listed_host and (path == "/" or address.is_app))
        or "*" in pages.paths
        or not query.isdisjoint(pages.parameters)
        or "/search" in path.lower()
        or any(path.startswith(prefix) for prefix in pages.paths)
    )
