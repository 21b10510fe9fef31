"""The source of a lead according to an event: ads, partner, referral, organic, social, email, form ...

The first such touchpoint is the profile's source until an event sets one. The door decides an event's channel and
stores it as `traffic_origin`; here it only becomes a source. Events from before that, and events that did not pass the
door, keep the classification below, as it was. Total: a page address that cannot be read has no source.
"""

from urllib.parse import urlsplit

from schemas import events
from schemas.envelope import Campaign, Event

_CATEGORY_OF_MEDIUM = {
    medium: category
    for category, mediums in {
        "ads": "ad ads banner cpc cpm cpv display paid paid_search paid_social paidsearch paidsocial ppc retargeting",
        "email": "e_mail email newsletter",
        "organic": "organic organic_search",
        "partner": "affiliate partner",
        "referral": "refer referral",
        "social": "organic_social social social_media",
    }.items()
    for medium in mediums.split()
}
_SEARCH_ENGINES = frozenset(
    {"baidu", "bing", "duckduckgo", "ecosia", "google", "naver", "qwant", "startpage", "yahoo", "yandex"}
)


SOURCE_OF_CHANNEL = {
    "affiliate": "partner",
    "ai_assistant": "ai_assistant",
    "audio": "audio",
    "display": "ads",
    "email": "email",
    "paid": "ads",
    "push": "push",
    "referral": "referral",
    "search": "organic",
    "shopping": "organic",
    "sms": "sms",
    "social": "social",
    "video": "social",
}
"""Direct, internal and unassigned events say nothing of the source."""


def source_of(event: Event) -> str | None:
    """The source of the lead according to the event; None if it has none.

    A form is the source unless the tags of its page's link are.
    """
    origin = event.traffic_origin
    if origin is None or origin.edition is None:
        return _source_without_origin(event)
    if isinstance(event, events.FormSubmitted) and origin.evidence != "link":
        return "form"
    source = SOURCE_OF_CHANNEL.get(origin.channel or "")
    return "form" if source is None and isinstance(event, events.FormSubmitted) else source


def _source_without_origin(event: Event) -> str | None:
    """The classification before the door decided it. It never changes: scores of recorded events rest on it.

    The tags of the link decide first, then the event type, then the referring page.
    """
    context = event.context
    if context is not None and context.campaign is not None:
        category = _category_of_medium(context.campaign)
        if category is not None:
            return category
    if isinstance(event, events.AdClicked):
        return "ads"
    if isinstance(event, events.FormSubmitted):
        return "form"
    if context is None or context.referrer is None:
        return None
    came_from = _host_of_url(context.referrer)
    if not came_from or came_from == _host_of_url(context.url or getattr(event, "url", None)):
        return None
    return "organic" if _SEARCH_ENGINES.intersection(came_from.split(".")) else "referral"


def _category_of_medium(campaign: Campaign) -> str | None:
    if campaign.medium is None:
        return None
    medium = campaign.medium.strip().casefold().replace("-", "_").replace(" ", "_")
    return _CATEGORY_OF_MEDIUM.get(medium)


def _host_of_url(url: str | None) -> str:
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")
