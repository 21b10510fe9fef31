"""The address of a page: its host, the site that the host belongs to, and the tags of the link that led there.

Pure and total: an address that cannot be read has no host and no tags. The cost is linear in the address.
"""

import ipaddress
import re
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

from msgspec import structs
from publicsuffixlist import PublicSuffixList

from schemas.blank import UNSEEN, is_blank_text
from schemas.envelope import Campaign

LONGEST_TAG_VALUE = 512
"""Characters of a tag, as the fields of a campaign have."""
LONGEST_HOST = 253
WEB_SCHEMES = frozenset({"http", "https"})
APP_SCHEMES = frozenset({"android-app", "ios-app"})

CAMPAIGN_FIELD_OF_UTM_TAG = {
    "utm_source": "source",
    "utm_medium": "medium",
    "utm_campaign": "name",
    "utm_term": "term",
    "utm_content": "content",
    "utm_id": "id",
}
"""The parameters, and the fields of a campaign that they fill."""

_PROPER = frozenset({"NA", "na"})
"""North America, in names of campaigns."""
_ESCAPED_AMPERSAND = re.compile(r"(^|&)(?:amp;)+")
"""An ampersand as HTML writes it, perhaps several times over."""
_PARAMETER_SEPARATOR = re.compile(r"&|[?;](?=utm_)", re.IGNORECASE)
"""What separates parameters; links that were put together twice have `?utm_` or `;utm_` in the middle."""
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f]")
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_ENCODED_SCHEME = re.compile(r"https?%3a", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)


class PageAddress(NamedTuple):
    """A host in its one form (lower case, punycode, no port, no dot at its end), or the name of an app's package,
    with path and query.
    """

    host: str
    path: str = "/"
    query: str = ""
    is_app: bool = False


@lru_cache(maxsize=4_000)
def read_page_address(text: str | None) -> PageAddress | None:
    """The address; None for none, for a path without a host, and for what is no page: `about:blank`, `(direct)`."""
    text = _without_unseen(text or "").replace("\\", "/")
    if _ENCODED_SCHEME.match(text):
        text = unquote(text)
    if is_path(text):
        return None
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if not scheme or "." in scheme:
        text = "//" + text.lstrip("/")
    elif scheme not in WEB_SCHEMES | APP_SCHEMES:
        return None
    try:
        parts = urlsplit(text)
        host = host_of(parts.hostname or "")
    except ValueError:
        return None
    return None if host is None else PageAddress(host, parts.path or "/", parts.query, scheme in APP_SCHEMES)


def is_path(text: str) -> bool:
    """Is it an address within the site: `/pricing`?"""
    return text.startswith("/") and not text.startswith("//")


@lru_cache(maxsize=10_000)
def host_of(name: str) -> str | None:
    """The host in its one form; None for what is no host on the internet, such as `localhost`."""
    name = unquote(name).rstrip(".")
    if not 0 < len(name) <= LONGEST_HOST:
        return None
    try:
        return _ip_address_of(name) or _dns_name(name)
    except ValueError:
        return None


def _ip_address_of(name: str) -> str | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return str(address)


def _dns_name(name: str) -> str | None:
    host = name.lower() if name.isascii() else name.encode("idna").decode().lower()
    host = host.rstrip(".")
    last = host.rpartition(".")[2]
    return host if _HOST.fullmatch(host) and not last.isdigit() else None


@lru_cache(maxsize=1)
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=1)
def _registry_suffixes() -> PublicSuffixList:
    """Without the suffixes of hosting companies (github.io): what countries and registries have."""
    return PublicSuffixList(only_icann=True)


@lru_cache(maxsize=10_000)
def site_of(host: str) -> str:
    """The registrable domain: acme.co.uk of shop.acme.co.uk, a.github.io of a.github.io; of an IP address itself."""
    if _ip_address_of(host) is not None:
        return host
    return str(_public_suffixes().privatesuffix(host) or host)


@lru_cache(maxsize=10_000)
def public_suffix_of(host: str) -> str:
    """The public suffix under which a registry sells names: co.uk of www.google.co.uk."""
    return str(_registry_suffixes().publicsuffix(host) or "")


def link_tags_of(address: str) -> dict[str, str]:
    """The parameters of the query and of the fragment, by name in lower case; the first that is not blank wins."""
    tags: dict[str, str] = {}
    if "=" not in address:
        return tags
    page, _, fragment = address.partition("#")
    for part in (page.partition("?")[2], fragment.removeprefix("!").removeprefix("?")):
        for pair in _PARAMETER_SEPARATOR.split(_ESCAPED_AMPERSAND.sub(r"\1", part)):
            name, equals, value = pair.partition("=")
            name = unquote_plus(name).strip().lower()
            if equals and name not in tags and (cleaned := stated_tag_value(unquote_plus(value))) is not None:
                tags[name] = cleaned
    return tags


def stated_tag_value(value: str | None) -> str | None:
    """A tag's value, trimmed; None for a blank one. One that is too long keeps its beginning and gets a hash, so that
    two stay two.
    """
    value = _without_unseen(value or "")
    if is_blank_text(value, _PROPER):
        return None
    if len(value) <= LONGEST_TAG_VALUE:
        return value
    digest = "#" + blake2b(value.encode(errors="replace"), digest_size=8).hexdigest()
    return value[: LONGEST_TAG_VALUE - len(digest)] + digest


def _without_unseen(text: str) -> str:
    seen: str = UNSEEN.sub("", _CONTROL_CHARACTERS.sub("", text))
    return seen.strip()


def campaign_of(producer: Campaign | None, tags: dict[str, str]) -> Campaign | None:
    """The campaign: what the producer states, and the tags of the address in the fields that it leaves out or blank."""
    fields = {
        CAMPAIGN_FIELD_OF_UTM_TAG[name]: value
        for name, value in tags.items()
        if name in CAMPAIGN_FIELD_OF_UTM_TAG
    }
    if producer is not None:
        fields |= {
            name: value
            for name, text in structs.asdict(producer).items()
            if (value := stated_tag_value(text)) is not None
        }
    return Campaign(**fields) if fields else None
