"""Random models, as text, and random histories, as events, for properties."""

from decimal import Decimal

from hypothesis import strategies as st
from leads_given import DAY_MS, HOUR_MS, T0, happened

from schemas.envelope import Context
from scoring.features.features import Session

ACTS = [
    "page_viewed", "email_opened", "email_replied", "qr_scanned", "message_received", "form_submitted",
    "question_answered", "element_clicked", "purchase_made", "profile_updated", "consent_changed",
    "contact_shared", "custom", "email_sent", "purchase_refunded", "call_made", "session_started", "demo_requested",
]  # fmt: skip
MOMENTS = st.one_of(
    st.integers(T0 - 130 * DAY_MS, T0),
    st.sampled_from(
        [
            T0 - k * DAY_MS + d
            for k in (0, 1, 3, 14, 30, 90, 100)
            for d in (-10 * HOUR_MS - 1, -10 * HOUR_MS, -1, 0, 1)
        ]
    ),
)
TEXTS = st.sampled_from(["x", " Berlin ", "director of x", "51-200", "7", "", "coach", "A@gmail.com"])
VALUES = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-3, 60), st.lists(TEXTS, max_size=3))
NAMES = st.sampled_from(["phone", "email", "company", "title", "location"])
IDS = st.none() | st.sampled_from(["1", "2", "3"])
MONEY = {
    "value": st.integers(0, 99_999).map(lambda cents: Decimal(cents) / 100),
    "currency": st.sampled_from(["EUR", "USD"]),
}
KEYED = {"purchase_made", "purchase_refunded", "form_submitted", "email_sent"}
"""Two reports of one of them never share a moment here: which is the later is not the oracle's business."""
PAGES = st.sampled_from(
    [
        None,
        "https://shop.example/pricing",
        "https://shop.example/pricing/",
        "https://blog.example/pricing",
        "https://blog.example/",
    ]
)
OF_TYPE = {
    "page_viewed": st.fixed_dictionaries({"url": PAGES}),
    "demo_requested": st.fixed_dictionaries({"context": st.none() | PAGES.map(lambda url: Context(url=url))}),
    "message_received": st.fixed_dictionaries({"kind": st.sampled_from(["text", "voice"])}),
    "form_submitted": st.fixed_dictionaries(
        {"fields": st.dictionaries(NAMES, VALUES, max_size=2), "submission_id": IDS}
    ),
    "email_sent": st.fixed_dictionaries({"message_id": IDS}),
    "profile_updated": st.fixed_dictionaries({"fields": st.dictionaries(NAMES, VALUES, max_size=3)}),
    "consent_changed": st.fixed_dictionaries({"email": st.sampled_from([None, True, False])}),
    "contact_shared": st.fixed_dictionaries({"email": st.none() | TEXTS, "phone": st.none() | TEXTS}),
    "question_answered": st.fixed_dictionaries(
        {
            "question_id": st.sampled_from("12345"),
            "text": st.sampled_from(["short", "a longer answer", ""]),
            "time_taken_s": st.none() | st.sampled_from([0.5, 119.9, 120.0, 300.0]),
            "profile_field": st.none() | NAMES,
        }
    ),
    "element_clicked": st.fixed_dictionaries({"text": st.sampled_from([None, " get a DEMO ", "other"])}),
    "purchase_made": st.fixed_dictionaries({**MONEY, "order_id": IDS}),
    "purchase_refunded": st.fixed_dictionaries(
        {**MONEY, "order_id": st.sampled_from(["1", "2", "3", "4"]), "refund_id": IDS}
    ),
    "custom": st.fixed_dictionaries(
        {
            "name": st.sampled_from(["trial", "visit"]),
            "properties": st.none() | st.fixed_dictionaries({"plan": VALUES}),
        }
    ),
    "call_made": st.fixed_dictionaries({"answered": st.booleans()}),
}


@st.composite
def histories(draw, max_size=25, min_size=0, acts=tuple(ACTS)):
    """Events in any order."""
    events = []
    for number in range(draw(st.integers(min_size, max_size))):
        kind = draw(st.sampled_from(acts))
        fields = draw(OF_TYPE.get(kind, st.just({})))
        source = draw(st.sampled_from(["web", "chatbot"]))
        at = draw(MOMENTS) - (number * 2 if kind in KEYED else 0)
        events.append(happened(kind, at, event_id=f"e{number}", source=source, **fields))
    return events


@st.composite
def some_sessions(draw, max_size=12):
    sessions = {}
    for number in range(draw(st.integers(0, max_size))):
        opened = T0 - draw(st.integers(0, 400)) * HOUR_MS
        seconds, pages, clicks, important = (draw(st.integers(0, n)) for n in (1500, 9, 9, 4))
        sessions[f"s{number}"] = Session(
            1, opened, opened + seconds * 1000, draw(st.booleans()), pages, clicks, important
        )
    return sessions


POINTS = st.integers(-50_000, 50_000).map(lambda n: Decimal(n) / 1000)
CAPS = st.integers(0, 60_000).map(lambda n: Decimal(n) / 1000)
FLOORS = CAPS.map(lambda cap: -cap)
COUNTS = st.sampled_from(
    [
        "email_opened", "interaction", "high_intent", "email_opened in 3 days", "page_viewed in 30 days",
        "interaction in 90 days", "active days in 7 days", "distinct questions", "sum of purchase:EUR",
        "custom:trial", "voice", "answers", "plan", "plan in 14 days", "email_opened in 1 day",
        "shop", "shop in 30 days", "asked", "asked in 30 days",
    ]
)  # fmt: skip
WINDOWS = st.sampled_from(
    [
        "interaction in 90 days", "interaction in 4 days", "high_intent in 30 days", "active days in 30 days",
        "email_opened in 1 day", "page_viewed in 30 days", "plan in 14 days", "voice in 90 days",
    ]
)  # fmt: skip
OF_ONE_LENGTH = st.sampled_from(
    [
        "interaction in 90 days", "email_opened in 1 day", "active days in 7 days",
        ["interaction in 30 days", "high_intent in 30 days"], ["active days in 5 days", "page_viewed in 5 days"],
    ]
)  # fmt: skip
HALF_LIVES = st.sampled_from([Decimal("0.5"), 3, 14, Decimal("7.25")])
SINCES = st.sampled_from(
    ["days since created", "hours since interaction", "days since voice", "days since purchase_made"]
)
TRENDS = st.sampled_from(["trend of interaction over 14 days", "trend of page_viewed over 3 days"])
FIELDS = NAMES.map("profile.{}".format) | st.just("profile.stage")
IN_SESSION = st.sampled_from(
    ["session.seconds", "session.pages", "session.clicks", "session.important_clicks"]
)
SIGNALS = """
[signals]
voice   = { event = "message_received", field = "kind", equals = "voice" }
answers = { event = "question_answered", source = "chatbot", distinct = "question_id", field = "text", longer_than = 5, where = [{ field = "time_taken_s", less_than = 120 }] }
plan    = { event = "custom:trial", field = "plan", is_set = true }
shop    = { event = "page_viewed", site = "shop.example" }
asked   = { sequence = ["page_viewed", "voice"], within = "30 days" }
"""
NUMBER_TESTS = st.one_of(
    st.tuples(
        st.sampled_from(
            ["greater_than", "less_than", "greater_or_equal", "less_or_equal", "equals", "not_equals"]
        ),
        st.sampled_from([0, 1, 2, 5, Decimal("29.5"), 30]),
    ),
    st.just(("between", [2, 20])),
    st.just(("in_list", [1, 3, 30])),
    st.just(("not_in_list", [0, 7])),
    st.sampled_from([("is_set", True), ("is_not_set", True)]),
)
TEXT_TESTS = st.sampled_from(
    [
        ("equals", "berlin"), ("not_equals", "x"), ("in_list", ["X", "coach", 7]), ("contains", "Direct"),
        ("not_contains", "e"), ("starts_with", "dir"), ("ends_with", "lin"), ("matches", "@(gmail|yahoo)"),
        ("is_set", True), ("is_not_set", True), ("greater_than", 6), ("equals", True), ("longer_than", 2),
    ]
)  # fmt: skip


@st.composite
def repeated(draw, *, session):
    """An `each` rule that limits how often it counts, or lets what it counts fade."""
    rule = {"points": draw(POINTS)}
    fading = "" if session else draw(st.sampled_from(["", "by day", "half-life", "linear"]))
    if fading == "linear":
        rule |= {"each": draw(OF_ONE_LENGTH), "fades": "linear"}
    elif fading:
        rule |= {"each": draw(WINDOWS | st.lists(WINDOWS, min_size=2, max_size=3))}
        rule |= {"half_life_days": draw(HALF_LIVES)} if fading == "half-life" else {}
    else:
        rule |= {"each": draw(IN_SESSION if session else COUNTS)}
    if fading and (fading == "by day" or draw(st.booleans())):
        rule["times_a_day"] = draw(st.integers(1, 3))
    if not fading or draw(st.booleans()):
        rule["times"] = draw(st.integers(1, 5))
    return rule


STEPS = st.sampled_from(
    ["page_viewed", "page_viewed:/pricing", "demo_requested", "custom:trial", "voice", "purchase_made"]
)
DURATIONS = st.sampled_from(["30 min", "10 h", "3 days", "90 days"])
SITES = st.sampled_from([{}, {}, {"site": "shop.example"}])


@st.composite
def rules(draw, name, *, session):
    counts = IN_SESSION if session else COUNTS
    kinds = (
        ["each", "repeated", "once", "steps", "base", "value"]
        if session
        else [
            "each",
            "repeated",
            "repeated",
            "once",
            "has",
            "steps",
            "choose",
            "base",
            "value",
            "text",
            "day",
            "sequence",
            "site",
        ]
    )
    kind, rule = draw(st.sampled_from(kinds)), {"name": name}
    if kind in {"each", "once"}:
        rule |= {kind: draw(counts | st.lists(counts, min_size=2, max_size=3)), "points": draw(POINTS)}
    elif kind == "repeated":
        rule |= draw(repeated(session=session))
    elif kind == "has":
        rule |= {"has": draw(NAMES | st.lists(NAMES, min_size=2, max_size=2)), "points": draw(POINTS)}
    elif kind == "steps":
        limits = sorted(draw(st.sets(st.integers(-3, 60), min_size=1, max_size=4)))
        rule |= {
            "steps": draw(counts if session else counts | SINCES),
            "below": [[limit, draw(POINTS)] for limit in limits],
        }
        rule |= draw(st.sampled_from([{}, {"otherwise": 3}, {"never": -1}, {"otherwise": 2, "never": 1}]))
    elif kind == "choose":
        table = {
            key: draw(POINTS)
            for key in draw(
                st.sampled_from([["customer", "Berlin"], ["qualified"], ["increasing", "stable"]])
            )
        }
        rule |= {"choose": draw(FIELDS.filter(lambda f: f != "profile.company") | TRENDS), "points": table}
        rule |= draw(st.sampled_from([{}, {"otherwise": 4}]))
    elif kind == "sequence":
        rule |= {"sequence": draw(st.lists(STEPS, min_size=2, max_size=3)), "within": draw(DURATIONS)}
        rule |= draw(SITES) | {"points": draw(POINTS)}
    elif kind == "site":
        counted = st.sampled_from(["page_viewed", "page_viewed in 30 days", "demo_requested", "custom:trial"])
        rule |= {draw(st.sampled_from(["each", "once"])): draw(counted), "site": "shop.example"}
        rule["points"] = draw(POINTS)
    elif kind == "base":
        rule |= {"base": draw(POINTS)}
    elif kind == "day":
        operator = draw(st.sampled_from(["greater_than", "less_or_equal", "equals"]))
        day = draw(st.sampled_from([20251009, 20251008, 20250911, 20250601]))
        rule |= {"value": "created_at", operator: day, "points": draw(POINTS)}
    elif kind == "text":
        operator, operand = draw(TEXT_TESTS)
        rule |= {"value": draw(FIELDS), operator: operand, "points": draw(POINTS)}
    else:
        operator, operand = draw(NUMBER_TESTS)
        rule |= {
            "value": draw(counts if session else counts | SINCES),
            operator: operand,
            "points": draw(POINTS),
        }
    if draw(st.booleans()):
        rule["max"] = draw(CAPS)
    if draw(st.booleans()):
        rule["min"] = draw(FLOORS)
    if draw(st.booleans()):
        rule |= {"id": int(name[1:]) + 1, "priority": draw(st.integers(-9, 9))}
    if draw(st.integers(0, 9)) == 0:
        rule["active"] = False
    return rule


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {toml(each)}' for key, each in value.items()) + " }"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


@st.composite
def repeating_models(draw):
    """Nothing but rules that limit how often they count, or let it fade."""
    drawn = [{"name": f"r{number}"} | draw(repeated(session=False)) for number in range(3)]
    return f'model = "m"\n{SIGNALS}\n[groups.g]\nrules = [{", ".join(map(toml, drawn))}]'


@st.composite
def matrices(draw, groups):
    sides = draw(st.permutations(range(groups)))
    text = ["[matrix.priority]"]
    for side, group, names in zip(("rows", "columns"), sides, ("ABC", "123"), strict=False):
        thresholds = draw(st.lists(st.integers(-60, 60), min_size=1, max_size=3, unique=True))
        bands = dict(zip(names, thresholds, strict=False))
        text += [f"{side} = {toml({'group': f'g{group}', 'bands': bands})}"]
    return text


@st.composite
def model_texts(draw, *, session=None, half_life=True):
    """The text of a model that makes sense."""
    session = draw(st.integers(0, 4)) == 0 if session is None else session
    text = ['model = "m"']
    if session:
        lead = {"mean_of": "ended sessions"} | draw(
            st.sampled_from([{}, {"latest": 3}, {"latest": 4, "half_life_days": 2} if half_life else {}])
        )
        text += ['reads = "session"', f"lead = {toml(lead)}"]
    text += draw(st.sampled_from([[], ["min = 0", "max = 100"], ["min = 10", "max = 20"], ["max = 33.5"]]))
    decays = [
        None,
        {"points": Decimal("0.1")},
        {"points": Decimal("1.5")},
        {"half_life_days": 3} if half_life else None,
    ]
    decay = None if session else draw(st.sampled_from(decays))
    text += [f"decay = {toml(decay)}"] if decay else []
    text += draw(st.sampled_from([[], ['round = "half up"']])) + draw(
        st.sampled_from([[], ['band_on = "rounded"']])
    )
    text += ["bands = { heat = { hot = 50, warm = 10, cold = 0 }, stage = { good = 12.5 } }"]
    if not session:
        text += draw(
            st.sampled_from(
                [
                    [],
                    ['needs.hot = { fields = ["email"], actions = ["interaction"], within_days = 30 }'],
                    ['needs.hot = { name = "Hot", id = 3, active = false }'],
                    [
                        'needs.cold = [{ fields = ["email"], id = 1, active = false }, { minimum = 2, id = 2 }]'
                    ],
                    [
                        'needs.warm = [{ fields = ["phone"], minimum = 20 }, { actions = ["voice", "email_opened"], within_days = 7 }]'
                    ],
                ]
            )
        )
    text += draw(st.sampled_from([[], ["highest_rule_id = 99"]]))
    text += [] if session else [SIGNALS]
    number, groups = 0, draw(st.integers(1, 3))
    text += draw(matrices(groups)) if not session and groups > 1 and draw(st.booleans()) else []
    for group in range(groups):
        text += [f"[groups.g{group}]"]
        text += [f"weight = {draw(st.integers(1, 1000)) / 1000}"] if draw(st.booleans()) else []
        text += [f"max = {draw(CAPS):f}"] if draw(st.booleans()) else []
        text += [f"min = {draw(FLOORS):f}"] if draw(st.booleans()) else []
        drawn = []
        for _ in range(draw(st.integers(1, 4))):
            drawn.append(toml(draw(rules(f"r{number}", session=session))))
            number += 1
        text += ["rules = [" + ", ".join(drawn) + "]"]
    return "\n".join(text)
