"""What people do, scene by scene: a web visit, a chat, a talk on Telegram, a letter, a call, a purchase.

A scene is a generator of beats: how long after the last one, which event, with which fields. It knows
neither dates nor delivery, so the same scenes make ninety days of history and the live demo.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from leadstream.simulation.personas import (
    BOT_QUESTIONS,
    BUTTONS,
    CATALOGS,
    DOWNLOADS,
    EXPO_PLACES,
    FROM_MAIL,
    NEEDS,
    ORIGINS,
    PAGES,
    PRODUCTS,
    QUESTIONS,
    SALES_PEOPLE,
    SITE,
    STARTS,
    Origin,
    Person,
    weighted,
)
from schemas.envelope import Campaign, Context, Event
from schemas.events import (
    AdClicked,
    CallMade,
    CampaignJoined,
    CatalogViewed,
    ConsentChanged,
    ContactShared,
    ContentDownloaded,
    ConversionRecorded,
    CtaClicked,
    Custom,
    DemoRequested,
    ElementClicked,
    EmailClicked,
    EmailOpened,
    EmailReplied,
    EmailSent,
    ExperimentExposed,
    FormSubmitted,
    GreetingReplied,
    LeadAssigned,
    LeadIdentified,
    LeadsMerged,
    LinkClicked,
    MeetingScheduled,
    MergeUndone,
    MessageReceived,
    NoteAdded,
    PageViewed,
    ProductClicked,
    ProfileUpdated,
    PurchaseMade,
    QrScanned,
    QuestionAnswered,
    QuestionsCompleted,
    SessionEnded,
    SessionHeartbeat,
    SessionStarted,
    SmsReplied,
    SmsSent,
    SocialInteraction,
    StageChanged,
    TaskCreated,
)


class Step(NamedTuple):
    """`wait` seconds after the one before, this happens."""

    wait: float
    what: type[Event]
    fields: dict[str, Any]


Beats = Iterator[Step]


class Scene(NamedTuple):
    """What is played, and who speaks: `voice` names the identity the events are keyed by."""

    voice: str
    """browser, chat, telegram or lead."""
    source: str
    play: Callable[[Person, Random], Beats]


def _context(who: Person, origin: Origin | None = None, path: str = "/") -> Context:
    campaign = (
        Campaign(source=origin.source, medium=origin.medium, name=origin.campaign)
        if origin and origin.source
        else None
    )
    tagged = (
        f"?utm_source={origin.source}&utm_medium={origin.medium}&utm_campaign={origin.campaign}"
        if origin and origin.source
        else ""
    )
    return Context(
        ip=who.ip,
        user_agent=who.user_agent,
        url=f"{SITE}{path}{tagged}",
        referrer=origin.referrer if origin else None,
        campaign=campaign,
    )


_PATHS = tuple(((path, title), weight) for path, title, weight in PAGES)
_ORIGINS = tuple((origin, origin.weight) for origin in ORIGINS)
_PACE = {"glancer": 18.0, "reader": 70.0, "buyer": 55.0, "expo": 30.0, "chatter": 40.0}
_PAGES_SEEN = {"glancer": (1, 3), "reader": (2, 7), "buyer": (4, 11), "expo": (1, 5), "chatter": (2, 5)}


def _browse(who: Person, rng: Random, origin: Origin, *, lead_id: str | None = None) -> Beats:
    """Opens the site, reads, clicks; leaves with a word or without."""
    known = {"lead_id": lead_id} if lead_id else {}
    if origin.medium == "cpc":
        yield Step(
            0,
            AdClicked,
            {"network": origin.source, "ad_id": f"ad-{origin.campaign}", "context": _context(who, origin)},
        )
    landing = weighted(rng, _PATHS)
    yield Step(1, SessionStarted, {"context": _context(who, origin, landing[0]), **known})
    pace = _PACE[who.kind]
    for nth in range(rng.randint(*_PAGES_SEEN[who.kind])):
        path, title = landing if nth == 0 else weighted(rng, _PATHS)
        here = _context(who, origin if nth == 0 else None, path)
        yield Step(
            rng.expovariate(1 / pace) + 1,
            PageViewed,
            {"url": f"{SITE}{path}", "title": title, "context": here, **known},
        )
        for _ in range(rng.choice((0, 0, 1, 1, 2)) if who.kind != "glancer" else rng.choice((0, 0, 1))):
            text = weighted(rng, BUTTONS)
            yield Step(
                rng.expovariate(1 / 15),
                ElementClicked,
                {"text": text, "url": f"{SITE}{path}", "context": here},
            )
            if text.strip().lower() == "get a demo" and who.kind == "buyer" and rng.random() < 0.2:
                yield Step(40, DemoRequested, {"context": here})
        act = rng.random()
        if act < 0.05:
            yield Step(
                8, LinkClicked, {"text": "Partner directory", "url": "https://partner.desklist.example/"}
            )
        elif act < 0.09:
            content_id, download = rng.choice(DOWNLOADS)
            yield Step(12, ContentDownloaded, {"content_id": content_id, "title": download, "context": here})
        elif act < 0.12:
            product_id, product = rng.choice(PRODUCTS)
            yield Step(
                9, ProductClicked, {"product_id": product_id, "product_name": product, "context": here}
            )
        elif act < 0.15:
            yield Step(60, SessionHeartbeat, {"context": here})
        elif act < 0.16:
            yield Step(5, Custom, {"name": "floor_plan_zoomed", "properties": {"office": path, "level": 3}})
        elif act < 0.175:
            yield Step(5, CtaClicked, {"cta_id": "footer-call-me", "text": "Call me back"})
    if rng.random() < 0.7:
        yield Step(rng.expovariate(1 / pace), SessionEnded, {"context": _context(who)})


def visit(who: Person, rng: Random) -> Beats:
    return _browse(who, rng, weighted(rng, _ORIGINS))


def visit_at_another_desk(who: Person, rng: Random) -> Beats:
    """Somebody else's browser: every event says who it is."""
    return _browse(who, rng, ORIGINS[0], lead_id=who.lead_id)


def visit_from_letter(who: Person, rng: Random) -> Beats:
    yield Step(0, LeadIdentified, {"lead_id": who.lead_id, "method": "email link"})
    yield from _browse(who, rng, FROM_MAIL)


def visit_and_sign_up(who: Person, rng: Random) -> Beats:
    """A visit that ends with a form: from here on we know who it is."""
    yield from (beat for beat in _browse(who, rng, weighted(rng, _ORIGINS)) if beat.what is not SessionEnded)
    if rng.random() < 0.3:
        yield Step(
            3,
            ExperimentExposed,
            {"experiment": "form-length", "variant": rng.choice(("short", "long")), "context": _context(who)},
        )
    form, name = rng.choice(
        (("demo", "Ask for a demo"), ("letter", "Monthly letter"), ("early-bird", "Early Bird"))
    )
    fields: dict[str, Any] = {
        "first_name": who.first_name,
        "last_name": who.last_name,
        "email": who.email,
        "country": who.country,
        "city": who.city,
    }
    if form != "letter":
        fields |= {"company": who.company, "title": who.title, "phone": who.phone}
    yield Step(
        50,
        FormSubmitted,
        {
            "form_id": form,
            "form_name": name,
            "fields": fields,
            "lead_id": who.lead_id,
            "context": _context(who, None, "/" + form),
        },
    )
    yield Step(0.2, LeadIdentified, {"lead_id": who.lead_id, "method": "form"})
    yield Step(0.3, ConsentChanged, {"email": True, "sms": form == "demo"})
    yield Step(20, SessionEnded, {})


def chat(who: Person, rng: Random) -> Beats:
    """The chatbot of the site: greeting, five questions, a way to reach them, a demo."""
    yield Step(0, SessionStarted, {"context": _context(who)})
    if rng.random() < 0.15:
        return
    yield Step(
        rng.uniform(4, 40),
        GreetingReplied,
        {"text": rng.choice(("Hi", "Hello!", "Good morning", "Hey there"))},
    )
    answers = {
        "industry": who.industry,
        "city": who.city,
        "team": who.company_size,
        "need": rng.choice(NEEDS),
        "start": rng.choice(STARTS),
    }
    stamina = rng.choice((1, 3, 5, 5, 5, 5))
    for question_id, question, field in QUESTIONS[:stamina]:
        taken = round(rng.expovariate(1 / 70) + 3, 1)
        yield Step(
            taken,
            QuestionAnswered,
            {
                "question_id": question_id,
                "question": question,
                "text": answers[question_id],
                "time_taken_s": taken,
                "profile_field": field,
            },
        )
    if stamina < len(QUESTIONS):
        return
    yield Step(0.5, QuestionsCompleted, {})
    if who.registers:
        yield Step(
            rng.uniform(10, 60),
            ContactShared,
            {
                "name": who.name,
                "first_name": who.first_name,
                "last_name": who.last_name,
                "email": who.email,
                "phone": who.phone,
                "lead_id": who.lead_id,
            },
        )
        yield Step(0.1, LeadIdentified, {"lead_id": who.lead_id, "method": "chat"})
    if rng.random() < 0.5:
        product_id, product = rng.choice(PRODUCTS)
        yield Step(rng.uniform(5, 40), ProductClicked, {"product_id": product_id, "product_name": product})
    if rng.random() < 0.6:
        yield Step(rng.uniform(5, 40), DemoRequested, {"text": "Please show me"})
    if rng.random() < 0.4:
        yield Step(rng.uniform(5, 30), CtaClicked, {"cta_id": "chat-book", "text": "Book a time"})
    yield Step(rng.uniform(5, 60), SessionEnded, {})


def _scans(rng: Random, most: int) -> Beats:
    for _ in range(rng.randint(1, most)):
        place = rng.choice(EXPO_PLACES)
        yield Step(
            rng.uniform(5, 120), QrScanned, {"qr_id": f"qr-{EXPO_PLACES.index(place) + 1}", "place": place}
        )


def _looks(rng: Random, most: int) -> Beats:
    for _ in range(rng.randint(0, most)):
        catalog_id, title = rng.choice(CATALOGS)
        yield Step(rng.uniform(10, 90), CatalogViewed, {"catalog_id": catalog_id, "title": title})


def _says(rng: Random, most: int) -> Beats:
    for _ in range(rng.randint(1, most)):
        spoken = rng.random() < 0.2
        yield Step(
            rng.uniform(8, 200),
            MessageReceived,
            {"kind": "voice" if spoken else "text", "text": rng.choice(BOT_QUESTIONS)},
        )


_WISHES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("budget_max", (450_000, 900_000, 1_500_000, 2_500_000)),
    ("transaction_type", ("rent", "buy")),
    ("property_type", ("office", "loft", "floor", "building")),
    ("location", ("Hamburg", "Berlin", "Dubai Marina")),
    ("payment_method", ("cash", "installments", "bank loan")),
)


def _wishes(rng: Random, most: int) -> Beats:
    for field, values in rng.sample(_WISHES, rng.randint(1, most)):
        yield Step(rng.uniform(3, 45), ProfileUpdated, {"fields": {field: rng.choice(values)}})


def expo_talk(who: Person, rng: Random) -> Beats:
    """At the expo: scans the code on the stand, the bot answers, and many leave their number."""
    yield from _scans(rng, 3)
    yield from _looks(rng, 2)
    yield from _says(rng, 4)
    if who.registers:
        yield Step(
            20,
            ContactShared,
            {
                "first_name": who.first_name,
                "last_name": who.last_name,
                "phone": who.phone,
                "lead_id": who.lead_id,
            },
        )
        yield Step(0.1, LeadIdentified, {"lead_id": who.lead_id, "method": "telegram contact"})
    yield from _wishes(rng, 3)


def telegram_talk(who: Person, rng: Random) -> Beats:  # noqa: ARG001 - every scene is played with (person, chance)
    """Later, from home."""
    if rng.random() < 0.3:
        yield from _scans(rng, 2)
    yield from _says(rng, 5)
    yield from _looks(rng, 3)
    yield from _wishes(rng, len(_WISHES))


def letter(who: Person, rng: Random) -> Beats:
    """We write; some open it, fewer click, few answer."""
    month = rng.randint(1, 12)
    about = {
        "campaign_id": f"letter-{month}",
        "campaign_name": "Monthly letter",
        "message_id": f"{who.number}-{rng.getrandbits(32):08x}",
        "subject": "What an empty desk costs",
    }
    yield Step(0, EmailSent, about)
    keen = {"glancer": 0.1, "reader": 0.5, "buyer": 0.65, "expo": 0.35, "chatter": 0.4}[who.kind]
    if rng.random() < keen:
        yield Step(rng.expovariate(1 / 14_000), EmailOpened, about)
        if rng.random() < keen * 0.6:
            yield Step(rng.uniform(4, 90), EmailClicked, {**about, "url": f"{SITE}/early-bird"})
        if rng.random() < keen * 0.15:
            yield Step(
                rng.uniform(60, 4_000), EmailReplied, {**about, "text": "Could we talk about this next week?"}
            )


def call(who: Person, rng: Random) -> Beats:
    by = rng.choice(SALES_PEOPLE)
    if rng.random() < 0.5:
        yield Step(0, LeadAssigned, {"assigned_to": by, "by": "round robin"})
    answered = rng.random() < 0.55
    talked = (
        {"duration_s": round(rng.uniform(60, 900)), "outcome": "talked"}
        if answered
        else {"outcome": "no answer"}
    )
    yield Step(60, CallMade, {"answered": answered, **talked})
    if answered:
        yield Step(
            120, NoteAdded, {"text": f"{who.first_name} asks about {rng.choice(NEEDS).lower()}.", "by": by}
        )
    else:
        yield Step(30, TaskCreated, {"title": f"Call {who.name} again", "priority": "normal"})
        if rng.random() < 0.6:
            yield Step(60, SmsSent, {"text": "We tried to reach you: when suits you?"})
            if rng.random() < 0.4:
                yield Step(rng.expovariate(1 / 3_000), SmsReplied, {"text": "Tomorrow after four, please"})


def meeting(who: Person, rng: Random) -> Beats:
    yield Step(0, MeetingScheduled, {"title": f"Harbourline and {who.company}"})
    yield Step(
        600,
        ProfileUpdated,
        {
            "fields": {
                "industry": who.industry,
                "company_size": who.company_size,
                "decision_maker": rng.random() < 0.5,
            }
        },
    )
    if rng.random() < 0.15:
        yield Step(
            3_600,
            StageChanged,
            {"stage": "opportunity", "reason": "asked for an offer", "by": rng.choice(SALES_PEOPLE)},
        )


def purchase(who: Person, rng: Random) -> Beats:
    value = Decimal(rng.randint(900, 90_000)) + Decimal(rng.choice((0, 50, 95))) / 100
    order = f"order-{who.number}-{rng.getrandbits(20):05x}"
    yield Step(
        0, PurchaseMade, {"value": value, "currency": rng.choice(("EUR", "EUR", "USD")), "order_id": order}
    )
    yield Step(
        1,
        ConversionRecorded,
        {"conversion_type": "contract", "conversion_id": order, "value": value, "currency": "EUR"},
    )


def campaign(who: Person, rng: Random) -> Beats:  # noqa: ARG001 - as above
    yield Step(0, CampaignJoined, {"campaign_id": "early-bird", "campaign_name": "Early Bird"})
    if rng.random() < 0.3:
        yield Step(
            7_200,
            SocialInteraction,
            {"network": rng.choice(("linkedin", "mastodon")), "action": rng.choice(("liked", "shared"))},
        )


def merge(who: Person, rng: Random) -> Beats:  # noqa: ARG001 - as above
    """Somebody notices that this is a person whom we knew."""
    yield Step(0, LeadsMerged, {"into": f"lead-{who.twin_of:05d}"})


def unmerge(who: Person, rng: Random) -> Beats:  # noqa: ARG001 - as above
    """And somebody else, that it was not."""
    yield Step(0, MergeUndone, {})


SCENES: dict[str, Scene] = {
    "visit": Scene("browser", "web", visit),
    "visit_at_another_desk": Scene("other browser", "web", visit_at_another_desk),
    "visit_from_letter": Scene("browser", "web", visit_from_letter),
    "visit_and_sign_up": Scene("browser", "web", visit_and_sign_up),
    "chat": Scene("chat", "chatbot", chat),
    "expo_talk": Scene("telegram", "telegram", expo_talk),
    "telegram_talk": Scene("telegram", "telegram", telegram_talk),
    "letter": Scene("lead", "email", letter),
    "call": Scene("lead", "phone", call),
    "meeting": Scene("lead", "crm", meeting),
    "purchase": Scene("lead", "crm", purchase),
    "campaign": Scene("lead", "crm", campaign),
    "merge": Scene("lead", "crm", merge),
    "unmerge": Scene("lead", "crm", unmerge),
}


def crawl(rng: Random, user_agent: str, ip: str) -> Beats:
    """A crawler reads a few pages, faster than any person."""
    for path, title in (weighted(rng, _PATHS) for _ in range(rng.randint(2, 7))):
        context = Context(ip=ip, user_agent=user_agent, url=f"{SITE}{path}")
        yield Step(
            rng.uniform(0.5, 4), PageViewed, {"url": f"{SITE}{path}", "title": title, "context": context}
        )
