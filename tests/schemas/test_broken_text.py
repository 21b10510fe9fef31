"""Half an emoji, NUL and bytes that are no UTF-8 cost no event: each becomes U+FFFD, wherever it stands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.broken_text import repair_broken_text
from schemas.decode import Refusal, decode_source, encode_source, read_event

DOORS = [read_event, decode_source]
MISSING = "\ufffd"


def raw(fields: str, type_="message_received") -> bytes:
    """An event with these fields, as JSON text; the text may be broken."""
    event = f'{{"type": "{type_}", "event_id": "e", "occurred_at": "2026-03-02T08:00:00Z", {fields}}}'
    return event.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("read", DOORS)
@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (r"Price please \ud83d", f"Price please {MISSING}"),
        (r"\ude00 first", f"{MISSING} first"),
        (r"\uD83D\uD83D\uDE00", f"{MISSING}\U0001f600"),
        (r"\ude00\ud83d", MISSING * 2),
        (r"\ud83d\u0041", f"{MISSING}A"),
        (r"\ud83d\n", f"{MISSING}\n"),
        (r"\\ud83d \\\ud83d", rf"\ud83d \{MISSING}"),
        (r"\ud83d\ude00 \ud83d\udc4b", "\U0001f600 \U0001f44b"),
        (r"a\u0000b", f"a{MISSING}b"),
        (r"\\u0000", r"\u0000"),
        ("cut \ud83d", f"cut {MISSING}"),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
def test_a_text_cut_in_the_middle_of_an_emoji_counts(read, written, stored):
    assert read(raw(f'"visitor_id": "v", "text": "{written}"')).text == stored


@pytest.mark.parametrize("read", DOORS)
def test_bytes_that_are_no_utf_8_become_one_character_each(read):
    broken = raw('"visitor_id": "v", "text": "caf? ?"').replace(b"?", b"\xe9")
    assert read(broken).text == f"caf{MISSING} {MISSING}"


def test_names_and_nested_values_are_repaired_too():
    fields = r'"visitor_id": "v", "name": "n", "properties": {"a\ud83d": [{"b\u0000": "\udc00"}]}, "own\ud83d": "\ud83d"'
    event = read_event(raw(fields, "custom"))
    assert event.properties == {f"a{MISSING}": [{f"b{MISSING}": MISSING}]}
    assert event.extra == {f"own{MISSING}": MISSING}


def test_profile_fields_and_context_are_repaired_too():
    fields = r'"lead_id": "l", "fields": {"name": "\ud83d"}, "context": {"campaign": {"name": "\u0000"}}'
    event = read_event(raw(fields, "form_submitted"))
    assert (event.fields, event.context.campaign.name) == ({"name": MISSING}, MISSING)


@pytest.mark.parametrize("read", DOORS)
@pytest.mark.parametrize("name", ["visitor_id", "lead_id", "session_id"])
@pytest.mark.parametrize("broken", [r"a\ud83d", r"a\u0000b", "\udc00"])
def test_a_broken_id_is_refused_by_name(read, name, broken):
    """Two that differ only in what was replaced would be one person."""
    ids = {"visitor_id": "v"} | {name: broken}
    with pytest.raises(Refusal, match=f"^{name}: .*broken character") as refused:
        read(raw(", ".join(f'"{key}": "{value}"' for key, value in ids.items())))
    assert refused.value.field == name


def test_the_id_of_the_other_lead_of_a_merge_is_refused_too():
    with pytest.raises(Refusal, match=r"^into: "):
        read_event(raw(r'"lead_id": "l", "into": "m\ud83d"', "leads_merged"))


def test_a_recorded_id_with_a_replacement_character_is_still_read():
    """The log may have such ids from before they were refused."""
    assert decode_source(raw(f'"visitor_id": "a{MISSING}"')).visitor_id == f"a{MISSING}"


PIECES = ["a", "\\", '"', "\0", "\ud83d", "\ude00", "\U0001f600", "\n", "é", "u0000", "ud83d"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(TEXTS, TEXTS, st.booleans())
def test_every_text_is_taken_with_all_that_can_be_stored_of_it(text, name, ascii_only):
    event = {
        "type": "custom",
        "event_id": "e",
        "occurred_at": "2026-03-02T08:00:00Z",
        "visitor_id": "v",
        "name": "n",
        "properties": {"text": text, "x" + name: 1},
    }
    sent = json.dumps(event, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    def storable(broken):
        whole = broken.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", MISSING)

    for read in DOORS:
        taken = read(sent)
        assert taken.properties == {"text": storable(text), "x" + storable(name): 1}
        assert read(encode_source(taken)) == taken


@given(st.binary(max_size=40))
def test_whole_text_is_left_alone_and_repairing_twice_changes_nothing(content):
    once = repair_broken_text(content)
    assert repair_broken_text(once) is once
    once.decode()
