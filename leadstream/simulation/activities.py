"""The activities of simulated people: a web visit, a chat, a talk on Telegram, a newsletter, a call, a purchase.

An activity is a generator of steps: the seconds after the last step, the type of the event, and its fields.
Dates and delivery are added elsewhere, so the same activities make ninety days of history and the live demo.
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


class Step(NamedTuple):
    """An event of type `what` that occurs `wait` seconds after the step before."""

    wait: float
    what: type[Event]
    fields: dict[str, Any]


Steps = Iterator[Step]


class SimulatedActivity(NamedTuple):
    """An activity, the source of its events, and the kind of identity that they carry."""

    identity: str
    """browser, other browser, chat, telegram or lead."""
    source: str
    play: Callable[[Person, Random], Steps]


def _context(person: Person, origin: Origin | None = None, path: str = "/") -> Context:
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


_PATHS = tuple(((path, title), weight) for path, title, weight in PAGES)
_ORIGINS = tuple((origin, origin.weight) for origin in ORIGINS)
_PACE = {"glancer": 18.0, "reader": 70.0, "buyer": 55.0, "expo": 30.0, "chatter": 40.0}
_PAGES_SEEN = {"glancer": (1, 3), "reader": (2, 7), "buyer": (4, 11), "expo": (1, 5), "chatter": (2, 5)}


def _browse(person: Person, rng: Random, origin: Origin, *, lead_id: str | None = None) -> Steps:
    """Opens the site, reads and clicks; some visits end without a session end."""
    identity_fields = {"lead_id": lead_id} if lead_id else {}
    if origin.medium == "cpc":
        yield Step(
            0,
            AdClicked,
            {"network": origin.source, "ad_id": f"ad-{origin.campaign}", "context": _context(person, origin)},
        )
    landing = weighted(rng, _PATHS)
    yield Step(1, SessionStarted, {"context": _context(person, origin, landing[0]), **identity_fields})
    pace = _PACE[person.kind]
    for nth in range(rng.randint(*_PAGES_SEEN[person.kind])):
        path, title = landing if nth == 0 else weighted(rng, _PATHS)
        context = _context(person, origin if nth == 0 else None, path)
        yield Step(
            rng.expovariate(1 / pace) + 1,
            PageViewed,
            {"url": f"{SITE}{path}", "title": title, "context": context, **identity_fields},
        )
        for _ in range(rng.choice((0, 0, 1, 1, 2)) if person.kind != "glancer" else rng.choice((0, 0, 1))):
            text = weighted(rng, BUTTONS)
            yield Step(
                rng.expovariate(1 / 15),
                ElementClicked,
                {"text": text, "url": f"{SITE}{path}", "context": context},
            )
            if text.strip().lower() == "get a demo" and person.kind == "buyer" and rng.random() < 0.2:
                yield Step(40, DemoRequested, {"context": context})
        chance = rng.random()
        if chance < 0.05:
            yield Step(
                8, LinkClicked, {"text": "Partner directory", "url": "https://partner.desklist.example/"}
            )
        elif chance < 0.09:
            content_id, download = rng.choice(DOWNLOADS)
            yield Step(
                12, ContentDownloaded, {"content_id": content_id, "title": download, "context": context}
            )
        elif chance < 0.12:
            product_id, product = rng.choice(PRODUCTS)
            yield Step(
                9, ProductClicked, {"product_id": product_id, "product_name": product, "context": context}
            )
        elif chance < 0.15:
            yield Step(60, SessionHeartbeat, {"context": context})
        elif chance < 0.16:
            yield Step(5, Custom, {"name": "floor_plan_zoomed", "properties": {"office": path, "level": 3}})
        elif chance < 0.175:
            yield Step(5, CtaClicked, {"cta_id": "footer-call-me", "text": "Call me back"})
    if rng.random() < 0.7:
        yield Step(rng.expovariate(1 / pace), SessionEnded, {"context": _context(person)})


def visit(person: Person, rng: Random) -> Steps:
    return _browse(person, rng, weighted(rng, _ORIGINS))


def visit_at_another_desk(person: Person, rng: Random) -> Steps:
    """A visit at another person's browser: events of the session and its pages carry the lead id."""
    return _browse(person, rng, ORIGINS[0], lead_id=person.lead_id)


def visit_from_newsletter(person: Person, rng: Random) -> Steps:
    yield Step(0, LeadIdentified, {"lead_id": person.lead_id, "method": "email link"})
    yield from _browse(person, rng, FROM_MAIL)


def visit_and_sign_up(person: Person, rng: Random) -> Steps:
    """A visit that ends with a form, which identifies the visitor."""
    yield from (
        step for step in _browse(person, rng, weighted(rng, _ORIGINS)) if step.what is not SessionEnded
    )
    if rng.random() < 0.3:
        yield Step(
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
    yield Step(
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
    yield Step(0.2, LeadIdentified, {"lead_id": person.lead_id, "method": "form"})
    yield Step(0.3, ConsentChanged, {"email": True, "sms": form == "demo"})
    yield Step(20, SessionEnded, {})


def chat(person: Person, rng: Random) -> Steps:
    """A chat with the site's chatbot: a greeting, up to five questions, contact data, a demo."""
    yield Step(0, SessionStarted, {"context": _context(person)})
    if rng.random() < 0.15:
        return
    yield Step(
        rng.uniform(4, 40),
        GreetingReplied,
        {"text": rng.choice(("Hi", "Hello!", "Good morning", "Hey there"))},
    )
    answers = {
        "industry": person.industry,
        "city": person.city,
        "team": person.company_size,
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
    if person.registers:
        yield Step(
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
        yield Step(0.1, LeadIdentified, {"lead_id": person.lead_id, "method": "chat"})
    if rng.random() < 0.5:
        product_id, product = rng.choice(PRODUCTS)
        yield Step(rng.uniform(5, 40), ProductClicked, {"product_id": product_id, "product_name": product})
    if rng.random() < 0.6:
        yield Step(rng.uniform(5, 40), DemoRequested, {"text": "Please show me"})
    if rng.random() < 0.4:
        yield Step(rng.uniform(5, 30), CtaClicked, {"cta_id": "chat-book", "text": "Book a time"})
    yield Step(rng.uniform(5, 60), SessionEnded, {})


def _qr_scans(rng: Random, most: int) -> Steps:
    for _ in range(rng.randint(1, most)):
        stand = rng.choice(EXPO_PLACES)
        yield Step(
            rng.uniform(5, 120), QrScanned, {"qr_id": f"qr-{EXPO_PLACES.index(stand) + 1}", "place": stand}
        )


def _catalog_views(rng: Random, most: int) -> Steps:
    for _ in range(rng.randint(0, most)):
        catalog_id, title = rng.choice(CATALOGS)
        yield Step(rng.uniform(10, 90), CatalogViewed, {"catalog_id": catalog_id, "title": title})


def _messages(rng: Random, most: int) -> Steps:
    for _ in range(rng.randint(1, most)):
        spoken = rng.random() < 0.2
        yield Step(
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


def _profile_updates(rng: Random, most: int) -> Steps:
    for field, values in rng.sample(_WISHED_FIELDS, rng.randint(1, most)):
        yield Step(rng.uniform(3, 45), ProfileUpdated, {"fields": {field: rng.choice(values)}})


def expo_talk(person: Person, rng: Random) -> Steps:
    """A talk at the expo: scans the code on the stand, writes to the bot; many share their number."""
    yield from _qr_scans(rng, 3)
    yield from _catalog_views(rng, 2)
    yield from _messages(rng, 4)
    if person.registers:
        yield Step(
            20,
            ContactShared,
            {
                "first_name": person.first_name,
                "last_name": person.last_name,
                "phone": person.phone,
                "lead_id": person.lead_id,
            },
        )
        yield Step(0.1, LeadIdentified, {"lead_id": person.lead_id, "method": "telegram contact"})
    yield from _profile_updates(rng, 3)


def telegram_talk(person: Person, rng: Random) -> Steps:  # noqa: ARG001 - activities have one signature
    """A later talk on Telegram, after the expo."""
    if rng.random() < 0.3:
        yield from _qr_scans(rng, 2)
    yield from _messages(rng, 5)
    yield from _catalog_views(rng, 3)
    yield from _profile_updates(rng, len(_WISHED_FIELDS))


def newsletter(person: Person, rng: Random) -> Steps:
    """The company writes; some open the mail, fewer click, few reply."""
    month = rng.randint(1, 12)
    about = {
        "campaign_id": f"letter-{month}",
        "campaign_name": "Monthly letter",
        "message_id": f"{person.number}-{rng.getrandbits(32):08x}",
        "subject": "What an empty desk costs",
    }
    yield Step(0, EmailSent, about)
    interest = {"glancer": 0.1, "reader": 0.5, "buyer": 0.65, "expo": 0.35, "chatter": 0.4}[person.kind]
    if rng.random() < interest:
        yield Step(rng.expovariate(1 / 14_000), EmailOpened, about)
        if rng.random() < interest * 0.6:
            yield Step(rng.uniform(4, 90), EmailClicked, {**about, "url": f"{SITE}/early-bird"})
        if rng.random() < interest * 0.15:
            yield Step(
                rng.uniform(60, 4_000), EmailReplied, {**about, "text": "Could we talk about this next week?"}
            )


def call(person: Person, rng: Random) -> Steps:
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
            120, NoteAdded, {"text": f"{person.first_name} asks about {rng.choice(NEEDS).lower()}.", "by": by}
        )
    else:
        yield Step(30, TaskCreated, {"title": f"Call {person.name} again", "priority": "normal"})
        if rng.random() < 0.6:
            yield Step(60, SmsSent, {"text": "We tried to reach you: when suits you?"})
            if rng.random() < 0.4:
                yield Step(rng.expovariate(1 / 3_000), SmsReplied, {"text": "Tomorrow after four, please"})


def meeting(person: Person, rng: Random) -> Steps:
    yield Step(0, MeetingScheduled, {"title": f"Harbourline and {person.company}"})
    yield Step(
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
        yield Step(
            3_600,
            StageChanged,
            {"stage": "opportunity", "reason": "asked for an offer", "by": rng.choice(SALES_PEOPLE)},
        )


def purchase(person: Person, rng: Random) -> Steps:
    value = Decimal(rng.randint(900, 90_000)) + Decimal(rng.choice((0, 50, 95))) / 100
    order = f"order-{person.number}-{rng.getrandbits(20):05x}"
    currency = rng.choice(("EUR", "EUR", "USD"))
    yield Step(0, PurchaseMade, {"value": value, "currency": currency, "order_id": order})
    yield Step(
        1,
        ConversionRecorded,
        {"conversion_type": "contract", "conversion_id": order, "value": value, "currency": "EUR"},
    )
    if rng.random() < 0.2:
        refunded = {"order_id": order, "value": value / 2, "currency": currency, "refund_id": f"{order}-1"}
        yield Step(rng.uniform(2, 10) * 86_400, PurchaseRefunded, refunded)


def campaign(person: Person, rng: Random) -> Steps:  # noqa: ARG001 - as above
    yield Step(0, CampaignJoined, {"campaign_id": "early-bird", "campaign_name": "Early Bird"})
    if rng.random() < 0.3:
        yield Step(
            7_200,
            SocialInteraction,
            {"network": rng.choice(("linkedin", "mastodon")), "action": rng.choice(("liked", "shared"))},
        )


def merge(person: Person, rng: Random) -> Steps:  # noqa: ARG001 - as above
    """A sales person notices that the person was entered twice, and merges the leads."""
    yield Step(0, LeadsMerged, {"into": f"lead-{person.twin_of:05d}"})


def unmerge(person: Person, rng: Random) -> Steps:  # noqa: ARG001 - as above
    """A colleague undoes the merge."""
    yield Step(0, MergeUndone, {})


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


def crawl(rng: Random, user_agent: str, ip: str) -> Steps:
    """A crawler reads a few pages, faster than any person."""
    for path, title in (weighted(rng, _PATHS) for _ in range(rng.randint(2, 7))):
        context = Context(ip=ip, user_agent=user_agent, url=f"{SITE}{path}")
        yield Step(
            rng.uniform(0.5, 4), PageViewed, {"url": f"{SITE}{path}", "title": title, "context": context}
        )
