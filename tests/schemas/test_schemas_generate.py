"""What is generated is current, true to the reader, and only ever widens."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import examples, generate
from schemas.blank import with_typed_blanks
from schemas.decode import MAX_EVENT_BYTES, MAX_EXTRA_FIELDS, Refusal, read_event
from schemas.envelope import Event
from schemas.events import EVENT_TYPES
from schemas.generate import (
    REPOSITORY,
    asyncapi,
    breaking_changes,
    current_schemas,
    json_schema,
    published_schemas,
)
from schemas.topics import TOPICS
from schemas.validation import MAX_JSON_DEPTH

PAGE = (REPOSITORY / "docs/producing.md").read_text(encoding="utf-8")
VALIDATORS = {
    kind.__struct_config__.tag: jsonschema.Draft202012Validator(json_schema(kind))
    for kind in generate.JSON_TYPES
}
MESSAGES = [*examples.events(), *examples.control(), *examples.statements()]


# Current


def test_everything_generated_is_current():
    assert generate.stale_paths(REPOSITORY) == [], "run `make schemas`"


def test_no_published_schema_was_narrowed():
    assert breaking_changes(published_schemas(REPOSITORY), current_schemas()) == []


def test_the_same_types_give_the_same_bytes():
    """Also under another hash seed, by which sets and strings are ordered."""
    command = (
        "from schemas.generate import *; import sys; sys.stdout.write(str(generated_documents(REPOSITORY)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of what generation reads, nothing generated yet."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/producing.md").write_text(
        f"before\n{generate.TABLE_BEGIN_MARK}\nold\n{generate.TABLE_END_MARK}\nafter\n", encoding="utf-8"
    )
    return tmp_path


def test_writing_makes_everything_current(house, capsys):
    assert generate.main([], house) == 0
    assert generate.main(["--check"], house) == 0
    page = (house / "docs/producing.md").read_text(encoding="utf-8")
    assert page.startswith(f"before\n{generate.TABLE_BEGIN_MARK}\n| type |")
    assert page.endswith(f"{generate.TABLE_END_MARK}\nafter\n")
    assert "schemas/asyncapi.json" in capsys.readouterr().out


def test_checking_names_what_is_stale_and_writes_nothing(house, capsys):
    generate.main([], house)
    (house / "schemas/asyncapi.json").write_text("{}")
    (house / "schemas/json/gone.schema.json").write_text("{}")
    (house / "schemas/json/custom.schema.json").unlink()
    assert generate.main(["--check"], house) == 1
    told = capsys.readouterr().err
    for path in ("schemas/asyncapi.json", "schemas/json/gone.schema.json", "schemas/json/custom.schema.json"):
        assert f"{path} is stale" in told
    assert not (house / "schemas/json/custom.schema.json").exists()
    assert generate.main([], house) == 0
    assert not (house / "schemas/json/gone.schema.json").exists()
    assert generate.stale_paths(house) == []


def test_a_page_without_its_marks_is_an_error(house):
    (house / "docs/producing.md").write_text("no marks")
    with pytest.raises(ValueError, match="must hold the lines"):
        generate.generated_documents(house)


def test_writing_publishes_a_copy_against_which_later_types_are_compared(house, capsys):
    assert generate.main([], house) == 0
    assert published_schemas(house) == current_schemas()
    kept = published_schemas(house)
    kept["page_viewed"]["properties"]["title"]["maxLength"] = 10_000
    (house / generate.PUBLISHED_SCHEMAS_PATH).write_text(json.dumps(kept))
    assert generate.main([], house) == 1
    error = capsys.readouterr().err
    assert "page_viewed.title: maxLength fell to 512" in error
    assert "restore schemas/published.json from git" in error
    assert published_schemas(house) == kept


# Only ever wider

FIELDS = {
    "kind": {"enum": ["text", "voice"]},
    "title": {"type": ["string", "null"], "maxLength": 10, "default": None},
    "n": {"type": "integer", "minimum": 0, "maximum": 9, "default": 1},
    "id": {"type": "string", "pattern": "^a$"},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
    "fields": {
        "type": "object",
        "maxProperties": 4,
        "propertyNames": {"pattern": "^[a-z]$"},
        "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 5}]},
    },
    "context": {"anyOf": [{"$ref": "#/$defs/Context"}, {"type": "null"}], "default": None},
}
CONTEXT = {"type": "object", "properties": {"ip": {"type": "string"}}, "required": []}
OLD = {"type": "object", "properties": FIELDS, "required": ["id"], "$defs": {"Context": CONTEXT}}


def changed(path: str, value=...) -> dict:
    """OLD with the entry at the dotted path set, or dropped."""
    schema = copy.deepcopy(OLD)
    *way, last = path.split("/")
    place = schema
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return schema


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("properties/title", ..., "t.title: removed"),
        ("$defs/Context/properties/ip", ..., "t.context.ip: removed"),
        ("required", ["id", "n"], "t.n: newly required"),
        ("$defs/Context/required", ["ip"], "t.context.ip: newly required"),
        ("properties/kind/enum", ["text"], "t.kind: no longer takes voice"),
        ("properties/n/enum", [1, 2], "t.n: no longer takes others"),
        ("properties/title/maxLength", 9, "t.title: maxLength fell to 9"),
        ("properties/title/type", "string", "t.title: no longer takes null"),
        ("properties/title/minLength", 1, "t.title: minLength rose to 1"),
        ("properties/id/maxLength", 100, "t.id: maxLength fell to 100"),
        ("properties/id/pattern", "^b$", "t.id: another pattern"),
        ("properties/kind/pattern", "^b$", "t.kind: another pattern"),
        ("properties/title/format", "date-time", "t.title: another format"),
        ("properties/n/minimum", 1, "t.n: minimum rose to 1"),
        ("properties/n/maximum", 8, "t.n: maximum fell to 8"),
        ("properties/n/type", "string", "t.n: no longer takes integer"),
        ("properties/n/default", 2, "t.n: another default"),
        ("properties/tags/items/maxLength", 4, "t.tags.items: maxLength fell to 4"),
        ("properties/tags/maxItems", 2, "t.tags: maxItems fell to 2"),
        ("properties/fields/maxProperties", 3, "t.fields: maxProperties fell to 3"),
        ("properties/fields/propertyNames/pattern", "^[a-f]$", "t.fields.propertyNames: another pattern"),
        (
            "properties/fields/additionalProperties",
            {"type": "integer"},
            "t.fields.additionalProperties: no longer takes string",
        ),
        (
            "properties/fields/additionalProperties/anyOf",
            [{"type": "integer", "minimum": 0}, {"type": "string", "maxLength": 5}],
            "t.fields.additionalProperties: minimum rose to 0",
        ),
        ("properties/context/anyOf", [{"$ref": "#/$defs/Context"}], "t.context: no longer takes null"),
        ("properties/context/anyOf", [{"type": "null"}], "t.context: no longer takes object"),
        ("anyOf", [{"required": ["n"]}], "t: another anyOf"),
    ],
)
def test_what_narrows_a_schema_is_told(path, value, problem):
    assert problem in breaking_changes({"t": OLD}, {"t": changed(path, value)})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/more", {"type": "string", "maxLength": 1, "default": None}),
        ("$defs/Context/properties/more", {"type": "null"}),
        ("required", []),
        ("properties/kind/enum", ["text", "voice", "video"]),
        ("properties/title/maxLength", 11),
        ("properties/title/maxLength", ...),
        ("properties/id/pattern", ...),
        ("properties/id/type", ["string", "null"]),
        ("properties/n/type", "number"),
        ("properties/n", {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "number"}], "default": 1}),
        ("properties/n/minimum", -1),
        ("properties/tags/items", {}),
        ("properties/fields/additionalProperties", {}),
        ("properties/fields/maxProperties", ...),
        ("properties/context/anyOf", [{"type": "null"}, {"$ref": "#/$defs/Context"}, {"type": "string"}]),
        ("description", "other words"),
        ("properties/title/description", "other words"),
    ],
)
def test_what_widens_a_schema_is_fine(path, value):
    assert breaking_changes({"t": OLD}, {"t": changed(path, value)}) == []


def test_a_type_may_come_but_not_go():
    assert breaking_changes({}, {"t": OLD}) == []
    assert breaking_changes({"t": OLD}, {}) == ["t: removed"]


def test_real_schemas_are_no_narrower_than_themselves():
    assert breaking_changes(current_schemas(), current_schemas()) == []


# True


@pytest.mark.parametrize("raw", MESSAGES, ids=lambda raw: json.loads(raw)["type"])
def test_each_example_fits_its_schema(raw):
    message = json.loads(raw)
    VALIDATORS[message["type"]].validate(message)


@pytest.mark.parametrize("type_", VALIDATORS)
def test_each_schema_is_one_and_says_what_it_is(type_):
    schema = VALIDATORS[type_].schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:leadstream:{type_}"
    assert schema["title"] == type_
    assert schema["description"]


FORESEEN = {
    "neither visitor nor lead",
    "an identification without a lead",
    "a merge without the lead that stays",
    "a space in event_id",
    "a line feed at the end of event_id",
    "a visitor_id that ends in a space",
    "a title that is too long",
    "an address that is a number",
    "an unknown stage",
    "a negative duration",
    "a negative amount",
    "an amount above 1e12",
    "a field name in capitals",
    "a field above 2^53",
    "a field above 1e15",
    "65 fields",
}


@pytest.mark.parametrize(
    "bad", [bad for bad in examples.refused() if bad.why in FORESEEN], ids=lambda bad: bad.why
)
def test_the_schema_foresees_what_the_door_refuses(bad):
    message = json.loads(bad.raw)
    assert not VALIDATORS[message["type"]].is_valid(message)


def test_the_foreseen_refusals_are_in_the_corpus():
    assert {bad.why for bad in examples.refused()} >= FORESEEN


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=5), scalars, max_size=2)


@settings(deadline=None)
@given(st.sampled_from(examples.events()), st.data())
def test_whatever_the_door_takes_fits_the_schema(raw, data):
    """So a producer that validates before it sends is never stricter than the door."""
    message = json.loads(raw)
    names = [*message, *(name for kind in EVENT_TYPES for name in kind.__struct_encode_fields__)]
    message[data.draw(st.sampled_from(names))] = data.draw(values)
    try:
        event = read_event(json.dumps(message).encode())
    except (Refusal, UnicodeEncodeError):
        return
    if isinstance(message.get("value"), str):
        return  # text of an amount may also be written as 1e3
    if (event.lead_id is None) != (message.get("lead_id") is None):
        return  # an anonymous lead id was rewritten
    if with_typed_blanks(type(event), message) != message:
        return  # a blank of another type than its field says nothing, and no schema foresees it
    VALIDATORS[message["type"]].validate(message)


# AsyncAPI


def references(value) -> list[str]:
    match value:
        case dict():
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for entry in value.values() for ref in references(entry)]
        case list():
            return [ref for entry in value for ref in references(entry)]
        case _:
            return []


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    document = asyncapi()
    refs = references(document)
    assert len(refs) > 100
    for ref in refs:
        place = document
        for step in ref.removeprefix("#/").split("/"):
            place = place[step]


def test_the_asyncapi_document_has_every_topic_with_its_messages():
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    for topic in TOPICS:
        channel = document["channels"][topic.name]
        assert tuple(channel["messages"]) == topic.types
        assert channel["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] == topic.retention_ms
    assert {operation["channel"]["$ref"] for operation in document["operations"].values()} == {
        f"#/channels/{topic.name}" for topic in TOPICS
    }


def test_every_message_of_the_asyncapi_document_is_explained():
    for message in asyncapi()["components"]["messages"].values():
        assert message["summary"]


def test_every_example_of_the_asyncapi_document_fits_its_schema():
    document = asyncapi()
    shown = 0
    for message in document["components"]["messages"].values():
        for each in message.get("examples", []):
            jsonschema.Draft202012Validator(
                {**message["payload"], "components": document["components"]}
            ).validate(each["payload"])
            shown += 1
    assert shown == len(VALIDATORS) - 1  # all but the dead letter


# The page for producers


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_explains_every_field_of_the_envelope():
    for field in ("type", *Event.__struct_encode_fields__):
        assert f"`{field}`" in PAGE.partition("## The envelope")[2].partition("## Who it was")[0]


def test_the_events_that_the_page_sends_are_answered_as_it_says():
    one, many, *_ = re.findall(r"-d '(.*?)'", PAGE, flags=re.DOTALL)
    assert read_event(one.encode())
    good, bad = msgspec.json.decode(many, type=list[msgspec.Raw])
    told = json.loads(fenced("json")[1])["events"]
    assert read_event(bytes(good)).event_id == told[0]["event_id"]
    with pytest.raises(Refusal) as caught:
        read_event(bytes(bad))
    assert (caught.value.field, caught.value.reason) == (told[1]["field"], told[1]["reason"])


def test_the_page_states_the_limits_as_they_are():
    for words in (
        f"up to {MAX_EXTRA_FIELDS} of them",
        f"at most {MAX_EVENT_BYTES // 1024} KB",
        f"at most {MAX_JSON_DEPTH} levels",
    ):
        assert words in PAGE


def test_the_identification_that_the_page_shows_is_one():
    (shown,) = [text for text in fenced("json") if '"lead_identified"' in text]
    assert type(read_event(shown.encode())).__name__ == "LeadIdentified"
