"""Writes what is derived from the types: JSON Schemas, the AsyncAPI document, the table of events.

`python -m schemas.generate` writes all of it, `--check` only names what is stale. Writing also publishes the
schemas of events: it refuses a schema that takes less than the published one (`breaking_changes`). The same
types give the same bytes; nothing here is read at run time.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from schemas import examples
from schemas.activity import ACTIVITY_TYPES
from schemas.control import CONTROL_TYPES, DERIVED_TYPES
from schemas.envelope import Event, tag_of
from schemas.events import AMOUNT_LIMITS, EVENT_TYPES, IDENTITY_EVENT_TYPES
from schemas.statements import STATEMENT_TYPES, DeadLetter
from schemas.topics import DEFAULT_PARTITIONS, EVENTS, MSGPACK_MEDIA_TYPE, TOPICS, Topic

Schema = dict[str, Any]

REPOSITORY = Path(__file__).parent.parent
SCHEMAS_FOLDER = "schemas/json"
PUBLISHED_SCHEMAS_PATH = "schemas/published.json"
"""What producers may rely on. A release makes it final: before that, git restores it."""
ASYNCAPI_PATH = "schemas/asyncapi.json"
PRODUCERS_PAGE = "docs/producing.md"
TABLE_BEGIN_MARK = "<!-- the table of events: written by `make schemas` -->"
TABLE_END_MARK = "<!-- end of the table of events -->"

UNRELEASED_TYPE_HINT = f"If no release contains the type yet, restore {PUBLISHED_SCHEMAS_PATH} from git and run `make schemas` again."

JSON_TYPES: tuple[type[Struct], ...] = (
    *EVENT_TYPES,
    *CONTROL_TYPES,
    *DERIVED_TYPES,
    *STATEMENT_TYPES,
    DeadLetter,
)


# JSON Schema


def json_schema(kind: type[Struct]) -> Schema:
    """The schema of one message, whole."""
    definitions = _definitions((kind,), "#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:leadstream:{tag_of(kind)}",
        **definitions.pop(kind.__name__),
        "title": tag_of(kind),
    }
    return {**schema, "$defs": definitions} if definitions else schema


def _definitions(kinds: Iterable[type[Struct]], ref_template: str) -> dict[str, Schema]:
    """The schemas of these types and of the types of their fields, by class name."""
    kinds = tuple(kinds)
    _, definitions = msgspec.json.schema_components(kinds, ref_template=ref_template)
    shortened = {name: _simplified_schema(schema) for name, schema in definitions.items()}
    for kind in kinds:
        if issubclass(kind, Event):
            schema = shortened[kind.__name__]
            schema |= _required_ids(kind, schema["required"])
    return shortened


def _required_ids(kind: type[Event], required: list[str]) -> Schema:
    """The ids that `decode` requires, which the types alone do not state."""
    if kind in IDENTITY_EVENT_TYPES:
        return {"required": [*required, "lead_id"]}
    return {"anyOf": [{"required": ["visitor_id"]}, {"required": ["lead_id"]}]}


def _simplified_schema(schema: Any) -> Any:
    """The schema with the limits of amounts, which msgspec cannot state, and with shorter nullable types."""
    match schema:
        case {"type": "string" | ["string", "null"] as type_, "format": "decimal", **rest}:
            return {
                **rest,
                "type": ["number", *([type_] if isinstance(type_, str) else type_)],
                **AMOUNT_LIMITS,
            }
        case {"anyOf": [{"type": str(type_), **form}, {"type": "null"}], **rest}:
            return _simplified_schema({"type": [type_, "null"], **form, **rest})
        case dict():
            return {
                name: " ".join(value.split())
                if name == "description" and isinstance(value, str)
                else _simplified_schema(value)
                for name, value in schema.items()
            }
        case list():
            return [_simplified_schema(entry) for entry in schema]
        case _:
            return schema


# What must not change in a published schema


def breaking_changes(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """What `old` accepts and `new` does not; both are schemas by type."""
    return [
        problem
        for type_, schema in old.items()
        for problem in (
            _narrowings(_without_references(schema), _without_references(new[type_]), type_)
            if type_ in new
            else [f"{type_}: removed"]
        )
    ]


def _without_references(schema: Schema) -> Schema:
    """The schema with every reference replaced by its target; no type refers to itself."""

    def follow(value: Any) -> Any:
        match value:
            case {"$ref": str(ref), **rest}:
                return {**follow(schema["$defs"][ref.rpartition("/")[2]]), **follow(rest)}
            case dict():
                return {name: follow(entry) for name, entry in value.items() if name != "$defs"}
            case list():
                return [follow(entry) for entry in value]
            case _:
                return value

    inlined: Schema = follow(schema)
    return inlined


def _narrowings(old: Schema, new: Schema, at: str) -> list[str]:
    """Where `new` accepts less than `old`: each form of the old needs one in the new that is as wide."""
    return [problem for form in _forms_of(old) for problem in _narrowings_of_form(form, _forms_of(new), at)]


def _narrowings_of_form(form: Schema, others: list[Schema], at: str) -> list[str]:
    """Empty if one of the others is as wide; else what the one of the same type no longer accepts."""
    attempts = [
        (_narrowings_between(form, other, at), other.get("type") != form.get("type")) for other in others
    ]
    return min(attempts, key=lambda attempt: (attempt[0] != [], attempt[1]))[0]


def _forms_of(schema: Schema) -> list[Schema]:
    """The alternatives of a schema, each of one type at most."""
    if "type" not in schema and "anyOf" in schema:
        return [form for alternative in schema["anyOf"] for form in _forms_of(alternative)]
    if isinstance(schema.get("type"), list):
        return [
            {"type": "null"} if type_ == "null" else {**schema, "type": type_} for type_ in schema["type"]
        ]
    return [schema]


def _narrowings_between(old: Schema, new: Schema, at: str) -> list[str]:
    if (
        "type" in new
        and new["type"] != old.get("type")
        and (old.get("type"), new["type"]) != ("integer", "number")
    ):
        return [f"{at}: no longer takes {old.get('type', 'everything')}"]
    problems = [
        f"{at}: {limit} fell to {new[limit]}"
        for limit in ("maxLength", "maximum", "maxItems", "maxProperties")
        if limit in new and new[limit] < old.get(limit, math.inf)
    ]
    problems += [
        f"{at}: {limit} rose to {new[limit]}"
        for limit in ("minLength", "minimum", "minItems", "minProperties")
        if limit in new and new[limit] > old.get(limit, -math.inf)
    ]
    problems += [
        f"{at}: another {rule}"
        for rule in ("pattern", "format", "anyOf")
        if new.get(rule, old.get(rule)) != old.get(rule)
    ]
    if "enum" in new:
        removed = sorted(
            {str(value) for value in old.get("enum", ["others"])} - {str(value) for value in new["enum"]}
        )
        problems += [f"{at}: no longer takes {value}" for value in removed]
    problems += [
        f"{at}.{name}: newly required"
        for name in new.get("required", [])
        if name not in old.get("required", [])
    ]
    for name, field in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            problems.append(f"{at}.{name}: removed")
            continue
        after = new["properties"][name]
        problems += _narrowings(field, after, f"{at}.{name}")
        if "default" in field and field["default"] != after.get("default"):
            problems.append(f"{at}.{name}: another default")
    for part in ("items", "additionalProperties", "propertyNames"):
        if part in new:
            problems += _narrowings(old.get(part, {}), new[part], f"{at}.{part}")
    return problems


# AsyncAPI


def asyncapi() -> dict[str, Any]:
    """Every topic, its messages and their schemas, for tools that read AsyncAPI 3."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:leadstream",
        "info": {
            "title": "Leadstream",
            "version": "1.0.0",
            "description": "Events in, lead scores out. Every score is explained by the events and rules that made it.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _asyncapi_channel(topic) for topic in TOPICS},
        "operations": {
            f"{'receive' if topic.name == EVENTS else 'send'}-{topic.name}": {
                "action": "receive" if topic.name == EVENTS else "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
            }
            for topic in TOPICS
        },
        "components": {
            "messages": {
                **{tag_of(kind): _json_message(kind) for kind in JSON_TYPES},
                **{tag_of(kind): _msgpack_message(kind) for kind in ACTIVITY_TYPES},
            },
            "schemas": _definitions(JSON_TYPES, "#/components/schemas/{name}"),
        },
    }


def _asyncapi_channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"{topic.about} Key: {topic.key}.",
        "messages": {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in topic.types},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": DEFAULT_PARTITIONS,
                "topicConfiguration": {
                    "cleanup.policy": ["compact" if topic.compacted else "delete"],
                    "retention.ms": topic.retention_ms,
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _json_message(kind: type[Struct]) -> dict[str, Any]:
    first_example = [
        payload for payload in map(msgspec.json.decode, _all_examples()) if payload["type"] == tag_of(kind)
    ][:1]
    return {
        "name": tag_of(kind),
        "summary": _summary(kind),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        **({"examples": [{"payload": payload} for payload in first_example]} if first_example else {}),
    }


def _msgpack_message(kind: type[Struct]) -> dict[str, Any]:
    """Internal messages are arrays: JSON terms can only state the order of their entries."""
    fields = ", ".join(("type", *kind.__struct_encode_fields__))
    return {
        "name": tag_of(kind),
        "summary": _summary(kind),
        "contentType": MSGPACK_MEDIA_TYPE,
        "payload": {"type": "array", "description": f"[{fields}]"},
    }


def _all_examples() -> list[bytes]:
    return [*examples.events(), *examples.control(), *examples.statements()]


# The page for producers


def events_table() -> str:
    """Every event type as a Markdown table; required fields are bold."""
    envelope = set(Event.__struct_fields__)
    rows = ["| type | what happened | fields of its own |", "|---|---|---|"]
    for kind in EVENT_TYPES:
        own = [
            f"**`{field.encode_name}`**" if field.required else f"`{field.encode_name}`"
            for field in structs.fields(kind)
            if field.name not in envelope
        ]
        if kind in IDENTITY_EVENT_TYPES:
            own.insert(0, "**`lead_id`**")
        rows.append(f"| `{tag_of(kind)}` | {_summary(kind)} | {', '.join(own)} |")
    return "\n".join(rows)


def page_with_table(page: str) -> str:
    """The page with the current table between its marks."""
    before, begin, rest = page.partition(TABLE_BEGIN_MARK)
    _, end, after = rest.partition(TABLE_END_MARK)
    if not (begin and end):
        raise ValueError(f"{PRODUCERS_PAGE} must hold the lines {TABLE_BEGIN_MARK} and {TABLE_END_MARK}")
    return f"{before}{TABLE_BEGIN_MARK}\n{events_table()}\n{TABLE_END_MARK}{after}"


# Writing


def generated_documents(root: Path) -> dict[str, str]:
    """Everything that is generated, by its path under `root`."""
    return {
        **{
            f"{SCHEMAS_FOLDER}/{tag_of(kind)}.schema.json": _pretty_json(json_schema(kind))
            for kind in JSON_TYPES
        },
        PUBLISHED_SCHEMAS_PATH: _one_line_per_schema(current_schemas()),
        ASYNCAPI_PATH: _pretty_json(asyncapi()),
        PRODUCERS_PAGE: page_with_table((root / PRODUCERS_PAGE).read_text(encoding="utf-8")),
    }


def stale_paths(root: Path) -> list[str]:
    """The paths whose contents do not match the types, or that belong to no type."""
    current = generated_documents(root)
    missing = [path for path, text in current.items() if _read_if_exists(root / path) != text]
    return missing + [path for path in _existing_paths(root, SCHEMAS_FOLDER) if path not in current]


def published_schemas(root: Path) -> dict[str, Schema]:
    """The schemas of events that producers may rely on, by type."""
    text = _read_if_exists(root / PUBLISHED_SCHEMAS_PATH)
    return {} if text is None else msgspec.json.decode(text, type=dict[str, Schema])


def current_schemas() -> dict[str, Schema]:
    """The schemas of events as the types are now, by type."""
    return {tag_of(kind): json_schema(kind) for kind in EVENT_TYPES}


def write_stale(root: Path) -> list[str]:
    """Writes what is stale; returns the paths."""
    current, paths = generated_documents(root), stale_paths(root)
    for path in paths:
        if path in current:
            _write_file(root / path, current[path])
        else:
            (root / path).unlink()
    return paths


def main(arguments: list[str] | None = None, root: Path = REPOSITORY) -> int:
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name what is stale, and fail if anything is"
    )
    options = parser.parse_args(arguments)
    if problems := breaking_changes(published_schemas(root), current_schemas()):
        sys.stderr.write(
            "\n".join(
                ["Published schemas may only gain optional fields:", *problems, UNRELEASED_TYPE_HINT, ""]
            )
        )
        return 1
    if options.check:
        paths = stale_paths(root)
        sys.stderr.writelines(f"{path} is stale: run `make schemas`\n" for path in paths)
        return 1 if paths else 0
    sys.stdout.writelines(f"{path}\n" for path in write_stale(root))
    return 0


def _summary(kind: type[Struct]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _pretty_json(document: Any) -> str:
    return f"{msgspec.json.format(msgspec.json.encode(document), indent=2).decode()}\n"


def _one_line_per_schema(schemas: Mapping[str, Schema]) -> str:
    """A line for each type, so that a change shows."""
    lines = (f"{_compact_json(type_)}: {_compact_json(schema)}" for type_, schema in schemas.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact_json(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def _existing_paths(root: Path, folder: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in (root / folder).glob("*.json"))


def _read_if_exists(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
