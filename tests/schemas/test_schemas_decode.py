"""The door and the log's reader: what comes in, what is refused, and that nothing else ever happens."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas import examples
from schemas.activity import (
    ACTIVITY_TYPES,
    Activity,
    ErasureRecorded,
    EventNoted,
    ExperimentChanged,
    IdentityAttached,
    IdentityCompleted,
    IdentityDelta,
    IdentityDetached,
    ModelChanged,
    ModelRemoved,
    RedirectChanged,
    SessionPut,
    SettingsChanged,
    TimePassed,
    WorkflowMomentCame,
    WorkflowsChanged,
)
from schemas.blank import is_id_of_nobody, is_placeholder
from schemas.control import CONTROL_TYPES, DERIVED_TYPES, Carried, Reassigned
from schemas.decode import (
    MAX_EVENT_BYTES,
    MAX_EXTRA_FIELDS,
    MAX_RECORD_BYTES,
    Refusal,
    decode_activity,
    decode_dead_letter,
    decode_source,
    decode_statement,
    encode_activity,
    encode_dead_letter,
    encode_source,
    encode_statement,
    key_of,
    read_event,
)
from schemas.envelope import Event
from schemas.events import EVENT_TYPES, LeadIdentified, PageViewed, PurchaseMade
from schemas.statements import STATEMENT_TYPES, DeadLetter

DOORS = [read_event, decode_source]
EXAMPLES = examples.events()
REFUSED = examples.refused()
ONLY_IN_UNKNOWN_FIELDS = {"a whole number above 2^53 that is not known"}


def raw_event(type_="page_viewed", **fields) -> bytes:
    event = {"event_id": "e-1", "occurred_at": "2026-03-02T08:00:00Z", "visitor_id": "w-1", **fields}
    return json.dumps({"type": type_, **{k: v for k, v in event.items() if v is not ...}}).encode()


def refusal_of(read, raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(raw)
    return caught.value


# The corpus


def test_every_event_type_has_an_example():
    assert {type(read_event(raw)) for raw in EXAMPLES} == set(EVENT_TYPES)


def test_every_control_record_has_an_example():
    assert {type(decode_source(raw)) for raw in examples.control()} == {*CONTROL_TYPES, *DERIVED_TYPES}


def test_every_statement_has_an_example():
    assert {type(decode_statement(raw)) for raw in examples.statements()} == set(STATEMENT_TYPES)


def test_event_ids_of_the_corpus_are_unique():
    ids = [read_event(raw).event_id for raw in EXAMPLES]
    assert len(ids) == len(set(ids))


def same(given, written) -> bool:
    """Whether a value survived: numbers exactly, moments as moments, objects with all their fields."""
    match given:
        case dict():
            return isinstance(written, dict) and all(
                same(v, written.get(k)) for k, v in given.items() if v is not None
            )
        case list():
            return len(given) == len(written) and all(map(same, given, written))
        case str() if given != written:
            return datetime.fromisoformat(given) == datetime.fromisoformat(written)
        case _:
            return given == written


@pytest.mark.parametrize("raw", [*EXAMPLES, *examples.control()], ids=lambda raw: json.loads(raw)["type"])
def test_the_log_keeps_every_field_of_a_message_exactly(raw):
    given = json.loads(raw, parse_float=Decimal)
    read = read_event if raw in EXAMPLES else decode_source
    written = json.loads(encode_source(read(raw)), parse_float=Decimal)
    unknown = {
        name: given.pop(name)
        for name in list(given)
        if name not in written and name in written.get("extra", {})
    }
    defaults = {"idle_minutes": 30, "time_zone": "UTC", "kind": "text"}
    assert same({k: v for k, v in given.items() if defaults.get(k) != v}, written)
    assert same(unknown, written.get("extra", {}))


@pytest.mark.parametrize("raw", [*EXAMPLES, *examples.control()], ids=lambda raw: json.loads(raw)["type"])
def test_what_was_written_to_the_log_reads_back_the_same(raw):
    message = read_event(raw) if raw in EXAMPLES else decode_source(raw)
    assert decode_source(encode_source(message)) == message
    assert encode_source(decode_source(encode_source(message))) == encode_source(message)


@pytest.mark.parametrize("raw", examples.statements(), ids=lambda raw: json.loads(raw)["type"])
def test_a_statement_survives_the_way_there_and_back(raw):
    statement = decode_statement(raw)
    assert same(
        json.loads(raw, parse_float=Decimal), json.loads(encode_statement(statement), parse_float=Decimal)
    )
    assert decode_statement(encode_statement(statement)) == statement


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.why)
def test_the_door_refuses_and_names_the_field(bad):
    refusal = refusal_of(read_event, bad.raw.encode())
    assert refusal.field == bad.field
    assert refusal.reason


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.why)
def test_the_log_refuses_what_the_door_refuses_unless_it_steps_over_the_field(bad):
    if bad.why in ONLY_IN_UNKNOWN_FIELDS:
        assert decode_source(bad.raw.encode()).extra is None
    else:
        assert refusal_of(decode_source, bad.raw.encode()).field == bad.field


# What a refusal says


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (raw_event("page_viewd"), "type: 'page_viewd' is not known; perhaps page_viewed is meant; "),
        (raw_event("zzz"), "for your own events use the type custom and a name"),
        (raw_event(occurred_at=..., occurredAt="2026-03-02T08:00:00Z"), "perhaps 'occurredAt' is meant"),
        (raw_event(event_id=...), "event_id: missing"),
        (raw_event(title=5), "title: must be text or null, not a whole number"),
        (raw_event(title="x" * 513), "title: must have at most 512 characters"),
        (raw_event(event_id="a b"), "event_id: must be 1 to 64 visible ASCII characters, no space"),
        (raw_event(occurred_at="2026-03-02T08:00:00"), "occurred_at: must say its time zone"),
        (raw_event("stage_changed", stage="won"), "stage: must be one of new, contacted, qualified,"),
        (raw_event("purchase_made", value=1, currency="eur"), "currency: must be three capital letters"),
        (raw_event("call_made", duration_s=-1), "duration_s: must be at least 0"),
        (raw_event("profile_updated", fields={"A": 1}), "fields.A: must be 1 to 64 of a-z, 0-9 and _"),
        (raw_event(lead_id="NULL"), "lead_id: 'NULL' is a placeholder"),
    ],
)
def test_a_refusal_is_plain_english(raw, says):
    assert says in str(refusal_of(read_event, raw))


def test_a_refusal_never_repeats_giant_input():
    giant = "x" * 20_000
    for raw in (
        raw_event(giant),
        raw_event(**{giant: 1e300}),
        raw_event("stage_changed", stage=giant),
        raw_event(lead_id=f"anon:{giant}"),
        raw_event("profile_updated", fields={giant: 1}),
        raw_event("custom", name="n", properties={giant: {giant: 1e300}}),
    ):
        assert len(str(refusal_of(read_event, raw))) < 300


def test_what_a_refusal_repeats_has_80_characters_at_most_however_they_are_escaped():
    assert len(refusal_of(read_event, raw_event(**{"\1" * 100: 1e300})).field) == 80
    assert len(refusal_of(read_event, raw_event(**{"\1" * 20: 1e300})).field) == 80
    assert refusal_of(read_event, raw_event(**{"\1" * 19: 1e300})).field == r"\x01" * 19


@pytest.mark.parametrize("read", DOORS)
def test_deep_json_is_said_to_be_deep(read):
    assert str(refusal_of(read, b'{"a":' * 10_000)) == "is nested too deeply"
    assert "nested too deeply" in str(refusal_of(read, raw_event()[:-1] + b', "x": ' + b"[" * 10_000))


def test_unknown_fields_nest_as_deep_as_extra_does_into_which_they_go():
    def nested(levels):
        return [nested(levels - 1)] if levels > 1 else []

    assert read_event(raw_event(zz=nested(7))).extra == {"zz": nested(7)}
    assert refusal_of(read_event, raw_event(zz=nested(8))).field == "zz.0.0.0.0.0.0.0"
    assert refusal_of(read_event, raw_event(extra={"zz": nested(8)})).field == "extra.zz.0.0.0.0.0.0.0"


def test_a_good_number_beside_nan_is_not_blamed():
    raw = raw_event("custom", name="n", properties={"a": -(2**53), "b": float("nan")})
    assert refusal_of(read_event, raw).field == "properties.b"


def test_a_field_that_is_known_is_no_misspelling_of_another():
    assert refusal_of(read_event, raw_event("task_created")).reason == "missing"


def test_only_the_first_fields_are_candidates_for_a_misspelling():
    """Comparing words is slow, and a hostile event may have thousands of fields."""
    near, far = {"occurred": 1}, {f"f{n}": 1 for n in range(MAX_EXTRA_FIELDS)}
    assert "perhaps" in refusal_of(read_event, raw_event(occurred_at=..., **near, **far)).reason
    assert refusal_of(read_event, raw_event(occurred_at=..., **far, **near)).reason == "missing"


# Hostile bytes


@pytest.mark.parametrize("read", DOORS)
@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"type":' * 10_000,
        raw_event()[:-1] + b', "deep": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        raw_event("custom", name="n")[:-1] + b', "properties": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
        raw_event()[:-1] + b', "\xc3": 1, "title": 1}',
        raw_event().decode().encode("utf-16"),
        gzip.compress(raw_event(), mtime=0),
        b"\xef\xbb\xbf" + raw_event(),
        b"\0",
        b"",
    ],
    ids=lambda raw: repr(raw[:12]) if isinstance(raw, bytes) else None,
)
def test_bytes_that_are_no_event_are_refused(read, raw):
    refusal_of(read, raw)


def test_an_event_above_64_kb_is_refused():
    text = "x" * (MAX_EVENT_BYTES - len(raw_event("custom", name="n", properties={"t": ""})))
    whole = raw_event("custom", name="n", properties={"t": text})
    assert len(whole) == MAX_EVENT_BYTES
    assert read_event(whole)
    assert refusal_of(read_event, whole + b" ").reason == "is larger than 64 KB"


def test_an_event_that_would_be_written_above_64_kb_is_refused():
    """Short numbers such as 1e14 grow when they are written; what the door takes, the log must read."""
    numbers = b"[" + b",".join([b"1e14"] * 10_000) + b"]"
    raw = raw_event("custom", name="n", properties={"n": []}).replace(b"[]", numbers)
    assert len(raw) < MAX_EVENT_BYTES
    assert refusal_of(read_event, raw).reason == "is larger than 64 KB"


def test_the_log_refuses_an_event_above_128_kb():
    raw = raw_event("custom", name="n", properties={"t": "x" * (MAX_RECORD_BYTES - 200)})
    assert decode_source(raw)
    assert refusal_of(decode_source, raw + b" " * 200).reason == "is larger than 128 KB"


def test_a_model_may_be_longer_than_an_event():
    text = "# é\n" * 50_000
    raw = json.dumps(
        {
            "type": "model_published",
            "tenant": "*",
            "recorded_at": "2026-03-01T00:00:00Z",
            "model": "m",
            "version": 1,
            "text": text,
        }
    ).encode()
    assert decode_source(raw).text == text


# Fields that are not known


def test_unknown_fields_are_kept_beside_given_ones():
    event = read_event(raw_event(plan="gold", extra={"a": 1}, deep={"x": [1, {"y": None}]}))
    assert event.extra == {"a": 1, "plan": "gold", "deep": {"x": [1, {"y": None}]}}


def test_the_log_steps_over_unknown_fields():
    assert decode_source(raw_event(plan="gold", extra={"a": 1})).extra == {"a": 1}


def test_so_many_unknown_fields_and_no_more():
    fields = {f"f{i}": i for i in range(MAX_EXTRA_FIELDS)}
    assert read_event(raw_event(**fields)).extra == fields
    assert refusal_of(read_event, raw_event(**fields, one_more=1)).field == "extra"


def test_an_event_of_the_door_fits_the_log_after_the_door_added_to_it():
    event = read_event(raw_event(**{f"f{i}": i for i in range(MAX_EXTRA_FIELDS)}))
    full = structs.replace(event, extra={**event.extra, "stated_occurred_at": "2026-03-02T08:00:00+00:00"})
    assert decode_source(encode_source(full)) == full


# Numbers and moments


@pytest.mark.parametrize("text", ["0", "0.1", "12.50", "999999999999.123456", "1e3", "1E+12", "0.000001"])
def test_amounts_survive_exactly_and_stay_json_numbers(text):
    raw = raw_event("purchase_made", value=0, currency="EUR").replace(
        b'"value": 0', f'"value": {text}'.encode()
    )
    for read in DOORS:
        event = read(raw)
        assert event.value == Decimal(text)
        assert type(json.loads(encode_source(event))["value"]) in {int, float}
        assert decode_source(encode_source(event)).value == Decimal(text)


def test_an_amount_given_as_text_is_written_as_a_number():
    event = read_event(raw_event("purchase_made", value="12.50", currency="EUR"))
    assert b'"value":12.50,' in encode_source(event)


@pytest.mark.parametrize("number", [2**53, -(2**53), 1e15, -1e15, 0.1, 5e-324])
def test_numbers_in_free_objects_survive(number):
    event = read_event(raw_event("custom", name="n", properties={"x": number}, y=number))
    assert event.properties["x"] == number
    assert decode_source(encode_source(event)).extra == {"y": number}


@pytest.mark.parametrize("read", DOORS)
@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**64, 1.1e15, -1e300])
def test_numbers_that_readers_of_json_disagree_on_are_refused(read, number):
    assert refusal_of(read, raw_event("custom", name="n", properties={"x": number})).field == "properties.x"


@pytest.mark.parametrize("read", DOORS)
def test_the_years_1_and_9999_are_taken_and_what_lies_beyond_in_utc_is_not(read):
    assert read(raw_event(occurred_at="0001-01-01T00:00:00Z")).occurred_at == datetime(1, 1, 1, tzinfo=UTC)
    assert read(raw_event(occurred_at="9999-12-31T23:59:59Z")).occurred_at.year == 9999
    assert refusal_of(read, raw_event(occurred_at="0001-01-01T00:00:00+00:01")).field == "occurred_at"
    assert refusal_of(read, raw_event(recorded_at="9999-12-31T23:59:59-00:01")).field == "recorded_at"
    assert (
        refusal_of(read, raw_event("task_created", title="t", due_at="9999-12-31T23:59:59-23:59")).field
        == "due_at"
    )


# Who it was


@pytest.mark.parametrize("read", DOORS)
def test_an_event_of_an_anonymous_lead_becomes_its_visitors(read):
    for visitor_id in ("w-1", ...):
        event = read(raw_event(visitor_id=visitor_id, lead_id="anon:w-1"))
        assert (event.visitor_id, event.lead_id) == ("w-1", None)
        assert key_of(event) == "default/v/w-1"


@pytest.mark.parametrize("read", DOORS)
def test_an_event_may_name_both_ids(read):
    event = read(raw_event(lead_id="lead-1"))
    assert (event.visitor_id, event.lead_id) == ("w-1", "lead-1")


@pytest.mark.parametrize("read", DOORS)
def test_an_anonymous_lead_whose_visitor_id_is_a_placeholder_is_refused(read):
    assert refusal_of(read, raw_event(visitor_id=..., lead_id="anon:null")).field == "visitor_id"


@pytest.mark.parametrize("read", DOORS)
def test_the_visitor_id_in_an_anonymous_lead_id_must_be_one(read):
    assert refusal_of(read, raw_event(visitor_id=..., lead_id="anon: w")).field == "lead_id"


@pytest.mark.parametrize("read", DOORS)
def test_an_identification_may_come_without_a_visitor(read):
    assert read(raw_event("lead_identified", visitor_id=..., lead_id="lead-1")) == LeadIdentified(
        event_id="e-1", occurred_at=datetime(2026, 3, 2, 8, tzinfo=UTC), lead_id="lead-1"
    )


def test_the_visitor_decides_the_key_so_that_a_retry_after_login_meets_its_first_attempt():
    before, after = read_event(raw_event(tenant="t")), read_event(raw_event(tenant="t", lead_id="lead-1"))
    assert key_of(before) == key_of(after) == "t/v/w-1"
    assert key_of(read_event(raw_event(tenant="t", visitor_id=..., lead_id="lead-1"))) == "t/l/lead-1"


@pytest.mark.parametrize(
    "lead_id",
    [
        "null",
        "Null",
        "UNDEFINED",
        "anonymous",
        "none",
        "NaN",
        "unknown",
        "0",
        "000",
        "00000000-0000-0000-0000-000000000000",
        "-1",
        "Guest",
        "distinct_id",
        "not_authenticated",
        "[object Object]",
        '"null"',
        "'undefined'",
        "''",
    ],
)
def test_what_broken_producers_send_is_a_placeholder(lead_id):
    assert is_placeholder(lead_id)


@pytest.mark.parametrize(
    "lead_id",
    ["1", "10", "nullify", "lead-0", "00000000-0000-0000-0000-000000000001", "no", "-10", "guest-1", "O'0"],
)
def test_real_ids_are_no_placeholders(lead_id):
    assert not is_placeholder(lead_id)


@pytest.mark.parametrize(
    "text",
    [
        "test", "TEST", "user", "demo", "n/a", "N/A", "#N/A", "unknown", "undefined", "anonymous", "guest", "none", "0", "-", "--",
        "test-user", "Test User", "demo_user", "guest user", "anonymous_user", "unknown.visitor", "user_id", "{{user_id}}", "'abc123'",
        "customer", "default", "(not set)", "null null", "\u200btest",
    ],
)  # fmt: skip
def test_what_names_nobody_is_no_id_of_a_person(text):
    assert is_id_of_nobody(text)


@pytest.mark.parametrize(
    "text",
    [
        "test-1", "user-17", "user17", "demo@acme.io", "tester@acme.io", "ann", "guestavo", "unknown-soldier", "lead-1001", "1", "007",
        "c-0f3a", "anna.test", "GA1.2.3", "\U0001f600", "nobody", "none-of-us", "no", "default/7", "a-test", "contact-7f31c2", "test" * 26,
    ],
)  # fmt: skip
def test_an_id_that_only_looks_like_one_of_nobody_is_taken(text):
    assert not is_id_of_nobody(text)


# The other records


def test_control_records_that_could_not_be_stored_are_refused():
    settings_of = '{"type":"settings_published","tenant":"t","version":1,"recorded_at":"%s","time_zone":"%s"}'
    assert decode_source((settings_of % ("2026-03-02T08:00:00Z", "UTC")).encode())
    nul = settings_of % ("2026-03-02T08:00:00Z", "\\u0000")
    assert refusal_of(decode_source, nul.encode()).field == "time_zone"
    late = settings_of % ("9999-12-31T23:59:59-01:00", "UTC")
    assert refusal_of(decode_source, late.encode()).field == "recorded_at"


def test_control_records_do_not_come_in_by_the_door():
    for raw in examples.control():
        assert refusal_of(read_event, raw).field == "type"


def test_a_reassignment_may_name_anonymous_leads_of_the_longest_visitors():
    holder = f"anon:{'é' * 128}"
    derived = Reassigned(
        tenant="default",
        recorded_at=datetime(2026, 3, 2, tzinfo=UTC),
        identity=f"default/v/{'é' * 128}#1",
        epoch=2,
        holder=holder,
        to=holder,
        path=[holder],
        carried=Carried("new", 0),
    )
    assert decode_source(encode_source(derived)) == derived


ACTIVITIES: list[Activity] = [
    IdentityAttached(
        tenant="t",
        lead_id="l",
        recorded_at=1,
        identity="t/v/w#1",
        epoch=1,
        home="anon:w",
        features=b"\0\xff",
        event=b"{}",
        event_id="e",
        sessions=[SessionPut("s", 1, 0, 1, True, 1, 2, 3, "p", "c")],
        carried=Carried("new", 5),
    ),
    IdentityCompleted(
        tenant="t",
        lead_id="l",
        recorded_at=1,
        identity="t/v/w#1",
        epoch=2,
        identified=Carried("engaged", 5),
        sessions=[SessionPut("s", 1, 0, 1, True, 1, 2, 3)],
        retracted=["r"],
    ),
    IdentityDetached(tenant="t", lead_id="l", recorded_at=-1, identity="i", epoch=2, gone=True),
    IdentityDelta(
        tenant="t", lead_id="l", recorded_at=1, identity="i", epoch=1, event=b"{}", event_id="e", lift=b""
    ),
    EventNoted(tenant="t", lead_id="l", recorded_at=1, event_id="e", outcome="duplicate"),
    RedirectChanged(tenant="t", lead_id="l", recorded_at=1, to=None, event_id="e"),
    TimePassed(tenant="t", lead_id="l", recorded_at=2**53),
    ModelChanged(tenant="*", lead_id="", recorded_at=1, model="m", version=1, text="é", fire=True),
    ModelRemoved(tenant="t", lead_id="", recorded_at=1, model="m", version=2, by="x", note="é"),
    SettingsChanged(
        tenant="*", lead_id="", recorded_at=1, version=1, time_zone="UTC", idle_minutes=30, lifecycle="l"
    ),
    WorkflowsChanged(
        tenant="t", lead_id="", recorded_at=1, version=3, text="é", by="x", change="y", folding=3
    ),
    ExperimentChanged("t", "", 1, "greeting", 3, "é", by="x", note="y", change="started"),
    WorkflowMomentCame(tenant="t", lead_id="", recorded_at=2, workflow_id=4, scheduled_for=1),
    ErasureRecorded(tenant="t", lead_id="", recorded_at=2, salt="00" * 16, hashes=["11" * 8]),
]


@pytest.mark.parametrize("activity", ACTIVITIES, ids=lambda activity: type(activity).__name__)
def test_activity_survives_the_way_there_and_back(activity):
    assert decode_activity(encode_activity(activity)) == activity


def test_every_activity_is_tried():
    assert {type(activity) for activity in ACTIVITIES} == set(ACTIVITY_TYPES)


def test_a_dead_letter_keeps_the_original_bytes():
    letter = DeadLetter(
        topic="events", partition=3, position=7, reason="is not valid UTF-8", original=bytes(range(256))
    )
    assert decode_dead_letter(encode_dead_letter(letter)) == letter


# Fuzzing: a message that can be stored and folded, or a refusal; nothing else


def attempt(decode, raw: bytes):
    """The message, or None after a refusal that can be shown to a producer."""
    try:
        return decode(raw)
    except Refusal as caught:
        refusal = caught
    assert refusal.reason
    assert len(str(refusal)) < 300
    assert str(refusal).isprintable()
    return None


def reads(read, raw: bytes) -> Event | None:
    """What `read` makes of the bytes, if it takes them; checked for all that later parts rely on."""
    message = attempt(read, raw)
    if message is None:
        return None
    written = encode_source(message)
    assert decode_source(written) == message
    assert b"\\u0000" not in written.replace(b"\\\\", b"")
    json.loads(written, parse_constant=pytest.fail)
    if isinstance(message, Event):
        message.occurred_at.astimezone(UTC)
        assert key_of(message)
        assert not (message.lead_id or "").startswith("anon:")
    return message


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        [
            "",
            "\0",
            "\ud800",
            "anon:",
            "anon:w-1",
            "null",
            "*",
            2**53,
            1e15,
            "2026-03-02T08:00:00Z",
            "NaN",
            "1e9",
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    sorted({name for kind in EVENT_TYPES for name in kind.__struct_encode_fields__} | {"type"})
)


@st.composite
def mutated(draw) -> bytes:
    """An example with some fields changed, added or dropped, and perhaps some bytes damaged."""
    event = json.loads(draw(st.sampled_from([*EXAMPLES, *examples.control()])))
    for _ in range(draw(st.integers(1, 3))):
        place = event
        name = draw(st.sampled_from(sorted(event)) | names | st.text(max_size=8))
        while isinstance(place.get(name), dict) and place[name] and draw(st.booleans()):
            place = place[name]
            name = draw(st.sampled_from(sorted(place)) | st.text(max_size=8))
        if draw(st.integers(0, 4)) == 0:
            place.pop(name, None)
        else:
            place[name] = draw(junk)
    raw = bytearray(json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    if draw(st.integers(0, 3)) == 0:
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(raw):
    for read in DOORS:
        reads(read, raw)
    for decode in (decode_activity, decode_statement, decode_dead_letter):
        attempt(decode, raw)


@settings(deadline=None)
@given(junk)
def test_random_json_is_refused_or_read(document):
    raw = json.dumps(document).encode()
    for read in DOORS:
        reads(read, raw)


@settings(deadline=None)
@given(mutated())
@example(raw_event("custom", name="n", properties={"\\u0000": "\\u0000"}))
@example(raw_event(v=True))
@example(raw_event(v=-1))
@example(raw_event(type=None))
def test_damaged_events_are_refused_or_read(raw):
    through_the_door = reads(read_event, raw)
    from_the_log = reads(decode_source, raw)
    if through_the_door is not None:
        assert structs.replace(through_the_door, extra=None) == structs.replace(from_the_log, extra=None)


@settings(deadline=None)
@given(st.sampled_from(ACTIVITIES), st.data())
def test_damaged_activity_is_refused_or_read(activity, data):
    raw = bytearray(encode_activity(activity))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    damaged = attempt(decode_activity, bytes(raw))
    assert damaged is None or decode_activity(encode_activity(damaged)) == damaged


def test_the_typed_reader_and_the_door_agree_on_what_is_missing_by_default():
    event = decode_source(raw_event())
    assert event == PageViewed(
        event_id="e-1", occurred_at=datetime(2026, 3, 2, 8, tzinfo=UTC), visitor_id="w-1"
    )
    assert msgspec.json.decode(encode_source(event)) == json.loads(raw_event())


def test_equal_purchases_are_written_with_equal_bytes():
    raw = raw_event("purchase_made", value=12.5, currency="EUR")
    assert isinstance(read_event(raw), PurchaseMade)
    assert encode_source(read_event(raw)) == encode_source(decode_source(raw))
