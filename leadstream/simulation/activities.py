"""The activities of simulated people: a web visit, a chat, a talk on Telegram, a newsletter, a call, a purchase.

An activity is a generator of steps: the seconds after the last step, the type of the event, and its fields.
Dates and delivery are added elsewhere, so the same activities make ninety days of history and the live demo.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from leadstream.simulation.personas import (
    BOT_QUESTIONS,
    BUTTONS,
    CATALOGS,
    DOWNLOADS,
    EXPO_PLACES,
    NEED_ANSWERS,
    NEWSLETTER_ORIGIN,
    ORIGINS,
    PAGES,
    PRODUCTS,
    QUESTIONS,
    SALES_PEOPLE,
    SITE,
    START_ANSWERS,
    SimulatedPerson,
    VisitOrigin,
    choose_weighted,
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
    LeadSnoozed,
    LinkClicked,
    MeetingScheduled,
    MergeUndone,
    MessageReceived,
    NoteAdded,
    PageViewed,
    ProductClicked,
    ProfileUpdated,
    PurchaseMade,
    PurchaseRefunded,
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


class SimulatedStep(NamedTuple):
    """An event of type `what` that occurs `wait` seconds after the step before. A length of time in `fields` is a moment so long
    after it.
    """

    wait: float
    what: type[Event]
    fields: dict[str, Any]


SimulatedSteps = Iterator[SimulatedStep]


class SimulatedActivity(NamedTuple):
    """An activity, the source of its events, and the kind of identity that they carry."""

    identity: str
    """browser, other browser, chat, telegram or lead."""
    source: str
    play: Callable[[SimulatedPerson, Random], SimulatedSteps]


def _context(person: SimulatedPerson, origin: VisitOrigin | None = None, path: str = "/") -> Context:
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
        ip=person.ip,
        user_agent=person.user_agent,
        url=f"{SITE}{path}{tagged}",
        referrer=origin.referrer if origin else None,
        campaign=campaign,
    )


_WEIGHTED_PAGES = tuple(((path, title), weight) for path, title, weight in PAGES)
_WEIGHTED_ORIGINS = tuple((origin, origin.weight) for origin in ORIGINS)
_SECONDS_PER_PAGE = {"glancer": 18.0, "reader": 70.0, "buyer": 55.0, "expo": 30.0, "chatter": 40.0}
_PAGES_SEEN = {"glancer": (1, 3), "reader": (2, 7), "buyer": (4, 11), "expo": (1, 5), "chatter": (2, 5)}


def _browse_site(
    person: SimulatedPerson, rng: Random, origin: VisitOrigin, *, lead_id: str | None = None
) -> SimulatedSteps:
    """Opens the site, reads and clicks; some visits end without a session end."""
    identity_fields = {"lead_id": lead_id} if lead_id else {}
    if origin.medium == "cpc":
        yield SimulatedStep(
            0,
            AdClicked,
            {"network": origin.source, "ad_id": f"ad-{origin.campaign}", "context": _context(person, origin)},
        )
    landing = choose_weighted(rng, _WEIGHTED_PAGES)
    yield SimulatedStep(
        1, SessionStarted, {"context": _context(person, origin, landing[0]), **identity_fields}
    )
    pace = _SECONDS_PER_PAGE[person.kind]
    for nth in range(rng.randint(*_PAGES_SEEN[person.kind])):
        path, title = landing if nth == 0 else choose_weighted(rng, _WEIGHTED_PAGES)
        context = _context(person, origin if nth == 0 else None, path)
        yield SimulatedStep(
            rng.expovariate(1 / pace) + 1,
            PageViewed,
            {"url": f"{SITE}{path}", "title": title, "context": context, **identity_fields},
        )
        for _ in range(rng.choice((0, 0, 1, 1, 2)) if person.kind != "glancer" else rng.choice((0, 0, 1))):
            text = choose_weighted(rng, BUTTONS)
            yield SimulatedStep(
                rng.expovariate(1 / 15),
                ElementClicked,
                {"text": text, "url": f"{SITE}{path}", "context": context},
            )
            if text.strip().lower() == "get a demo" and person.kind == "buyer" and rng.random() < 0.2:
                yield SimulatedStep(40, DemoRequested, {"context": context})
        chance = rng.random()
        if chance < 0.05:
            yield SimulatedStep(
                8, LinkClicked, {"text": "Partner directory", "url": "https://partner.desklist.example/"}
            )
        elif chance < 0.09:
            content_id, download = rng.choice(DOWNLOADS)
            yield SimulatedStep(
                12, ContentDownloaded, {"content_id": content_id, "title": download, "context": context}
            )
        elif chance < 0.12:
            product_id, product = rng.choice(PRODUCTS)
            yield SimulatedStep(
                9, ProductClicked, {"product_id": product_id, "product_name": product, "context": context}
            )
        elif chance < 0.15:
            yield SimulatedStep(60, SessionHeartbeat, {"context": context})
        elif chance < 0.16:
            yield SimulatedStep(
                5, Custom, {"name": "floor_plan_zoomed", "properties": {"office": path, "level": 3}}
            )
        elif chance < 0.175:
            yield SimulatedStep(5, CtaClicked, {"cta_id": "footer-call-me", "text": "Call me back"})
    if rng.random() < 0.7:
        yield SimulatedStep(rng.expovariate(1 / pace), SessionEnded, {"context": _context(person)})


def visit(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    return _browse_site(person, rng, choose_weighted(rng, _WEIGHTED_ORIGINS))


def visit_at_another_desk(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    """A visit at another person's browser: events of the session and its pages carry the lead id."""
    return _browse_site(person, rng, ORIGINS[0], lead_id=person.lead_id)


def visit_from_newsletter(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    yield SimulatedStep(0, LeadIdentified, {"lead_id": person.lead_id, "method": "email link"})
    yield from _browse_site(person, rng, NEWSLETTER_ORIGIN)


def visit_and_sign_up(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    """A visit that ends with a form, which identifies the visitor."""
    yield from (
        step
        for step in _browse_site(person, rng, choose_weighted(rng, _WEIGHTED_ORIGINS))
        if step.what is not SessionEnded
    )
    if rng.random() < 0.3:
        yield SimulatedStep(
            3,
            ExperimentExposed,
            {
                "experiment": "form-length",
                "variant": rng.choice(("short", "long")),
                "context": _context(person),
            },
        )
    form, name = rng.choice(
        (("demo", "Ask for a demo"), ("letter", "Monthly letter"), ("early-bird", "Early Bird"))
    )
    fields: dict[str, Any] = {
        "first_name": person.first_name,
        "last_name": person.last_name,
        "email": person.email,
        "country": person.country,
        "city": person.city,
    }
    if form != "letter":
        fields |= {"company": person.company, "title": person.title, "phone": person.phone}
    yield SimulatedStep(
        50,
        FormSubmitted,
        {
            "form_id": form,
            "form_name": name,
            "fields": fields,
            "lead_id": person.lead_id,
            "context": _context(person, None, "/" + form),
        },
    )
    yield SimulatedStep(0.2, LeadIdentified, {"lead_id": person.lead_id, "method": "form"})
    yield SimulatedStep(0.3, ConsentChanged, {"email": True, "sms": form == "demo"})
    yield SimulatedStep(20, SessionEnded, {})


def chat(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    """A chat with the site's chatbot: a greeting, up to five questions, contact data, a demo."""
    yield SimulatedStep(0, SessionStarted, {"context": _context(person)})
    if rng.random() < 0.15:
        return
    yield SimulatedStep(
        rng.uniform(4, 40),
        GreetingReplied,
        {"text": rng.choice(("Hi", "Hello!", "Good morning", "Hey there"))},
    )
    answers = {
        "industry": person.industry,
        "city": person.city,
        "team": person.company_size,
        "need": rng.choice(NEED_ANSWERS),
        "start": rng.choice(START_ANSWERS),
    }
    stamina = rng.choice((1, 3, 5, 5, 5, 5))
    for question_id, question, field in QUESTIONS[:stamina]:
        taken = round(rng.expovariate(1 / 70) + 3, 1)
        yield SimulatedStep(
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
    yield SimulatedStep(0.5, QuestionsCompleted, {})
    if person.registers:
        yield SimulatedStep(
            rng.uniform(10, 60),
            ContactShared,
            {
                "name": person.name,
                "first_name": person.first_name,
                "last_name": person.last_name,
                "email": person.email,
                "phone": person.phone,
                "lead_id": person.lead_id,
            },
        )
        yield SimulatedStep(0.1, LeadIdentified, {"lead_id": person.lead_id, "method": "chat"})
    if rng.random() < 0.5:
        product_id, product = rng.choice(PRODUCTS)
        yield SimulatedStep(
            rng.uniform(5, 40), ProductClicked, {"product_id": product_id, "product_name": product}
        )
    if rng.random() < 0.6:
        yield SimulatedStep(rng.uniform(5, 40), DemoRequested, {"text": "Please show me"})
    if rng.random() < 0.4:
        yield SimulatedStep(rng.uniform(5, 30), CtaClicked, {"cta_id": "chat-book", "text": "Book a time"})
    yield SimulatedStep(rng.uniform(5, 60), SessionEnded, {})


def _qr_scans(rng: Random, most: int) -> SimulatedSteps:
    for _ in range(rng.randint(1, most)):
        stand = rng.choice(EXPO_PLACES)
        yield SimulatedStep(
            rng.uniform(5, 120), QrScanned, {"qr_id": f"qr-{EXPO_PLACES.index(stand) + 1}", "place": stand}
        )


def _catalog_views(rng: Random, most: int) -> SimulatedSteps:
    for _ in range(rng.randint(0, most)):
        catalog_id, title = rng.choice(CATALOGS)
        yield SimulatedStep(rng.uniform(10, 90), CatalogViewed, {"catalog_id": catalog_id, "title": title})


def _messages(rng: Random, most: int) -> SimulatedSteps:
    for _ in range(rng.randint(1, most)):
        spoken = rng.random() < 0.2
        yield SimulatedStep(
            rng.uniform(8, 200),
            MessageReceived,
            {"kind": "voice" if spoken else "text", "text": rng.choice(BOT_QUESTIONS)},
        )


_WISHED_FIELDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("budget_max", (450_000, 900_000, 1_500_000, 2_500_000)),
    ("transaction_type", ("rent", "buy")),
    ("property_type", ("office", "loft", "floor", "building")),
    ("location", ("Hamburg", "Berlin", "Dubai Marina")),
    ("payment_method", ("cash", "installments", "bank loan")),
)


def _profile_updates(rng: Random, most: int) -> SimulatedSteps:
    for field, values in rng.sample(_WISHED_FIELDS, rng.randint(1, most)):
        yield SimulatedStep(rng.uniform(3, 45), ProfileUpdated, {"fields": {field: rng.choice(values)}})


def expo_talk(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    """A talk at the expo: scans the code on the stand, writes to the bot; many share their number."""
    yield from _qr_scans(rng, 3)
    yield from _catalog_views(rng, 2)
    yield from _messages(rng, 4)
    if person.registers:
        yield SimulatedStep(
            20,
            ContactShared,
            {
                "first_name": person.first_name,
                "last_name": person.last_name,
                "phone": person.phone,
                "lead_id": person.lead_id,
            },
        )
        yield SimulatedStep(0.1, LeadIdentified, {"lead_id": person.lead_id, "method": "telegram contact"})
    yield from _profile_updates(rng, 3)


def telegram_talk(person: SimulatedPerson, rng: Random) -> SimulatedSteps:  # noqa: ARG001 - activities have one signature
    """A later talk on Telegram, after the expo."""
    if rng.random() < 0.3:
        yield from _qr_scans(rng, 2)
    yield from _messages(rng, 5)
    yield from _catalog_views(rng, 3)
    yield from _profile_updates(rng, len(_WISHED_FIELDS))


def newsletter(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    """The company writes; some open the mail, fewer click, few reply."""
    month = rng.randint(1, 12)
    about = {
        "campaign_id": f"letter-{month}",
        "campaign_name": "Monthly letter",
        "message_id": f"{person.number}-{rng.getrandbits(32):08x}",
        "subject": "What an empty desk costs",
    }
    yield SimulatedStep(0, EmailSent, about)
    interest = {"glancer": 0.1, "reader": 0.5, "buyer": 0.65, "expo": 0.35, "chatter": 0.4}[person.kind]
    if rng.random() < interest:
        yield SimulatedStep(rng.expovariate(1 / 14_000), EmailOpened, about)
        if rng.random() < interest * 0.6:
            yield SimulatedStep(rng.uniform(4, 90), EmailClicked, {**about, "url": f"{SITE}/early-bird"})
        if rng.random() < interest * 0.15:
            yield SimulatedStep(
                rng.uniform(60, 4_000), EmailReplied, {**about, "text": "Could we talk about this next week?"}
            )


def call(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    by = rng.choice(SALES_PEOPLE)
    if rng.random() < 0.5:
        yield SimulatedStep(0, LeadAssigned, {"assigned_to": by, "by": "round robin"})
    answered = rng.random() < 0.55
    talked = (
        {"duration_s": round(rng.uniform(60, 900)), "outcome": "talked"}
        if answered
        else {"outcome": "no answer"}
    )
    yield SimulatedStep(60, CallMade, {"answered": answered, **talked})
    if answered:
        yield SimulatedStep(
            120,
            NoteAdded,
            {"text": f"{person.first_name} asks about {rng.choice(NEED_ANSWERS).lower()}.", "by": by},
        )
    else:
        yield SimulatedStep(20, LeadSnoozed, {"until": timedelta(hours=2), "by": by})
        yield SimulatedStep(30, TaskCreated, {"title": f"Call {person.name} again", "priority": "normal"})
        if rng.random() < 0.6:
            yield SimulatedStep(60, SmsSent, {"text": "We tried to reach you: when suits you?"})
            if rng.random() < 0.4:
                yield SimulatedStep(
                    rng.expovariate(1 / 3_000), SmsReplied, {"text": "Tomorrow after four, please"}
                )


def meeting(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    yield SimulatedStep(0, MeetingScheduled, {"title": f"Harbourline and {person.company}"})
    yield SimulatedStep(
        600,
        ProfileUpdated,
        {
            "fields": {
                "industry": person.industry,
                "company_size": person.company_size,
                "decision_maker": rng.random() < 0.5,
            }
        },
    )
    if rng.random() < 0.15:
        yield SimulatedStep(
            3_600,
            StageChanged,
            {"stage": "opportunity", "reason": "asked for an offer", "by": rng.choice(SALES_PEOPLE)},
        )


def purchase(person: SimulatedPerson, rng: Random) -> SimulatedSteps:
    value = Decimal(rng.randint(900, 90_000)) + Decimal(rng.choice((0, 50, 95))) / 100
    order = f"order-{person.number}-{rng.getrandbits(20):05x}"
    currency = rng.choice(("EUR", "EUR", "USD"))
    yield SimulatedStep(0, PurchaseMade, {"value": value, "currency": currency, "order_id": order})
    yield SimulatedStep(
        1,
        ConversionRecorded,
        {"conversion_type": "contract", "conversion_id": order, "value": value, "currency": "EUR"},
    )
    if rng.random() < 0.2:
        refunded = {"order_id": order, "value": value / 2, "currency": currency, "refund_id": f"{order}-1"}
        yield SimulatedStep(rng.uniform(2, 10) * 86_400, PurchaseRefunded, refunded)


def campaign(person: SimulatedPerson, rng: Random) -> SimulatedSteps:  # noqa: ARG001 - as above
    yield SimulatedStep(0, CampaignJoined, {"campaign_id": "early-bird", "campaign_name": "Early Bird"})
    if rng.random() < 0.3:
        yield SimulatedStep(
            7_200,
            SocialInteraction,
            {"network": rng.choice(("linkedin", "mastodon")), "action": rng.choice(("liked", "shared"))},
        )


def merge(person: SimulatedPerson, rng: Random) -> SimulatedSteps:  # noqa: ARG001 - as above
    """A sales person notices that the person was entered twice, and merges the leads."""
    yield SimulatedStep(0, LeadsMerged, {"into": f"lead-{person.twin_of:05d}"})


def unmerge(person: SimulatedPerson, rng: Random) -> SimulatedSteps:  # noqa: ARG001 - as above
    """A colleague undoes the merge."""
    yield SimulatedStep(0, MergeUndone, {})


# The names seed the random numbers of each activity: a new name changes the simulated events.
ACTIVITIES: dict[str, SimulatedActivity] = {
    "visit": SimulatedActivity("browser", "web", visit),
    "visit_at_another_desk": SimulatedActivity("other browser", "web", visit_at_another_desk),
    "visit_from_letter": SimulatedActivity("browser", "web", visit_from_newsletter),
    "visit_and_sign_up": SimulatedActivity("browser", "web", visit_and_sign_up),
    "chat": SimulatedActivity("chat", "chatbot", chat),
    "expo_talk": SimulatedActivity("telegram", "telegram", expo_talk),
    "telegram_talk": SimulatedActivity("telegram", "telegram", telegram_talk),
    "letter": SimulatedActivity("lead", "email", newsletter),
    "call": SimulatedActivity("lead", "phone", call),
    "meeting": SimulatedActivity("lead", "crm", meeting),
    "purchase": SimulatedActivity("lead", "crm", purchase),
    "campaign": SimulatedActivity("lead", "crm", campaign),
    "merge": SimulatedActivity("lead", "crm", merge),
    "unmerge": SimulatedActivity("lead", "crm", unmerge),
}


def crawl(rng: Random, user_agent: str, ip: str) -> SimulatedSteps:
    """A crawler reads a few pages, faster than any person."""
    for path, title in (choose_weighted(rng, _WEIGHTED_PAGES) for _ in range(rng.randint(2, 7))):
        context = Context(ip=ip, user_agent=user_agent, url=f"{SITE}{path}")
        yield SimulatedStep(
            rng.uniform(0.5, 4), PageViewed, {"url": f"{SITE}{path}", "title": title, "context": context}
        )
