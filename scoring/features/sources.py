"""Where an event says that a lead comes from: ads, partner, referral, organic, social, email or form.

The first such touch stands for the profile's source while nobody has given one. Total: a page address
that cannot be read says nothing.
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


def source_of(event: Event) -> str | None:
    """Where the event says that the lead comes from; None if it says nothing about that.

    What a link was tagged with counts first, then the kind of event, then the page it came from.
    """
    context = event.context
    if context is not None and context.campaign is not None:
        category = _category(context.campaign)
        if category is not None:
            return category
    if isinstance(event, events.AdClicked):
        return "ads"
    if isinstance(event, events.FormSubmitted):
        return "form"
    if context is None or context.referrer is None:
        return None
    came_from = _host(context.referrer)
    if not came_from or came_from == _host(context.url or getattr(event, "url", None)):
        return None
    return "organic" if _SEARCH_ENGINES.intersection(came_from.split(".")) else "referral"


def _category(campaign: Campaign) -> str | None:
    if campaign.medium is None:
        return None
    medium = campaign.medium.strip().casefold().replace("-", "_").replace(" ", "_")
    return _CATEGORY_OF_MEDIUM.get(medium)


def _host(url: str | None) -> str:
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")
