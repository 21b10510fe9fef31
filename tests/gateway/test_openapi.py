"""The description of the API: every operation has an example, every field a type and a description that teaches."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from gateway.openapi import KEYLESS, METHODS, Fields, examples_of, fields_of_tag, schema_of
from tests.gateway.route_table import openapi, operations


class Documented(NamedTuple):
    name: str
    operation: dict[str, Any]

    @property
    def file(self) -> str:
        """Where its fields are described."""
        return f"gateway/fields/{self.operation['tags'][0].replace(' ', '_')}.toml"


def documented() -> Iterator[Documented]:
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield Documented(f"{method.upper()} {path}", operation)


ALL = [pytest.param(each, id=each.name) for each in documented()]
"""Every operation of /openapi.json."""


class Field(NamedTuple):
    path: str
    schema: dict[str, Any]


def fields(schema: Any, path: str = "") -> Iterator[Field]:
    """The schema, and all those inside it."""
    assert isinstance(schema, dict), f"{path}: no schema"
    if schema == {"$ref": "#/components/schemas/Problem"}:
        return
    assert "$ref" not in schema, "write the schema where it is used: the page shows it there"
    yield Field(path, schema)
    for name, each in schema.get("properties", {}).items():
        yield from fields(each, f"{path}.{name}".lstrip("."))
    for group in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(group, ()):
            alternative, *inside = fields(each, path)
            yield from inside if each.get("type") != "object" else [Field("", alternative.schema), *inside]
    for group in ("items", "additionalProperties"):
        if isinstance(schema.get(group), dict):
            yield from fields(schema[group], f"{path}.*".lstrip("."))


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield "the request", content
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            yield f"the answer {status}", content


@pytest.mark.parametrize("each", ALL)
def test_every_field_and_parameter_has_a_description_that_says_more_than_its_name(each):
    problems = []
    for where, content in bodies(each.operation):
        for path, schema in fields(content.get("schema")):
            name = path.rpartition(".")[2]
            if name not in {"", "*"} and not _teaches(schema.get("description"), name):
                problems.append(f"{where}: the field `{path}`")
    problems += [
        f"the parameter `{parameter['name']}`"
        for parameter in each.operation.get("parameters", ())
        if not _teaches(parameter.get("description"), parameter["name"])
    ]
    assert not problems, (
        f"{each.name}: describe in {each.file} (or shared.toml, if it means the same everywhere), with unit, range and "
        f"what null means: {problems}"
    )


def _teaches(description: str | None, name: str) -> bool:
    words = re.findall(r"[a-z]+", (description or "").lower())
    return len(words) >= 2 and not set(words) <= {*name.lower().split("_"), "the", "a", "an", "of"}


@pytest.mark.parametrize("each", ALL)
def test_every_field_has_a_type(each):
    problems = []
    for where, content in bodies(each.operation):
        for path, schema in fields(content["schema"]):
            kinds = schema.get("type", [])
            kinds = [kinds] if isinstance(kinds, str) else kinds
            if not kinds and not {"anyOf", "oneOf", "allOf", "enum", "const"} & schema.keys():
                free = schema.get("description") == "Any value." or "as a number or a text" in str(schema)
                problems += [] if free or path == "" else [f"{where}: `{path}` has no type"]
            if "object" in kinds and not {"properties", "additionalProperties"} & schema.keys():
                problems.append(f"{where}: `{path}` is an object of which nothing is said")
            if "array" in kinds and not schema.get("items"):
                problems.append(f"{where}: `{path}` is an array of which nothing is said")
            if kinds == ["null"]:
                problems.append(f"{where}: `{path}` is only null: give its type")
            if "null" in kinds and len(kinds) > 1 and "ull" not in schema.get("description", ""):
                problems.append(f"{where}: `{path}` may be null: say what that means")
    assert not problems, (
        f"{each.name}: correct it in {each.file}, or its example in gateway/examples: {problems}"
    )


@pytest.mark.parametrize("each", ALL)
def test_every_operation_has_a_summary_and_examples_of_request_and_answer(each):
    operation = each.operation
    assert operation["summary"]
    assert len(operation["tags"]) == 1, "one tag: it names the file of its fields"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        assert examples_of(content), (
            f"{each.name}: give an example of the request (gateway.documented.request_docs)"
        )
    assert any(status[0] in "23" for status in operation["responses"]), "it answers, or leads on"
    for status in (status for status in operation["responses"] if status[0] == "2"):
        content = operation["responses"][status].get("content", {})
        if status == "204" or any(
            kind.startswith(("audio/", "image/", "application/zip")) for kind in content
        ):
            continue
        assert any(map(examples_of, content.values())), (
            f"{each.name}: give an example of the answer {status} (gateway.documented.answer_docs)"
        )


@pytest.mark.parametrize("each", ALL)
def test_every_example_is_what_its_schema_describes(each):
    problem = openapi()["components"]["schemas"]["Problem"]
    for where, content in bodies(each.operation):
        schema = content["schema"]
        validator = Draft202012Validator(problem if "$ref" in schema else schema)
        Draft202012Validator.check_schema(validator.schema)
        for example in examples_of(content):
            found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(example)]
            assert not found, f"{each.name}, {where}"


def test_every_operation_has_a_name_of_its_own():
    names = [each.operation["operationId"] for each in documented()]
    assert len(names) == len(set(names))


def test_every_address_without_a_key_is_a_route_and_every_other_names_its_keys():
    paths = {each.documented_path for each in operations()}
    assert set(KEYLESS) <= paths
    for each in documented():
        keyless = each.name.partition(" ")[2] in KEYLESS
        assert bool(each.operation["security"]) is not keyless


def test_the_longest_name_of_an_entry_describes_a_field():
    described = {
        "weight": "A share.",
        "variants.weight": "A share of visitors.",
        "bands": {"keys": "A scale."},
    }
    schema = schema_of(
        {"weight": 1, "variants": [{"weight": 0.5}], "bands": {"stage": "mql"}}, Fields(described)
    )
    assert schema["properties"]["weight"] == {"type": "integer", "description": "A share."}
    assert schema["properties"]["variants"]["items"]["properties"]["weight"]["description"] == (
        "A share of visitors."
    )
    assert schema["properties"]["bands"]["additionalProperties"] == {"type": "string"}
    assert "properties" not in schema["properties"]["bands"]


def test_a_field_that_not_every_answer_has_is_not_required():
    described = {"location": {"optional": True, "description": "Where to look."}, "id": "A number."}
    assert schema_of({"id": 1, "location": "/x"}, Fields(described))["required"] == ["id"]


@pytest.mark.parametrize("tag", sorted({each.operation["tags"][0] for each in documented()}))
def test_no_entry_describes_a_field_that_is_no_longer_there(tag):
    file = Path(f"gateway/fields/{tag.replace(' ', '_')}.toml")
    entries = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    paths = set()
    for each in documented():
        if each.operation["tags"][0] == tag:
            paths |= {parameter["name"] for parameter in each.operation.get("parameters", ())}
            for _, content in bodies(each.operation):
                root = [word for word in each.name.split("/") if word and "{" not in word][-1]
                paths |= {f"{root}.{path}" for path, _ in fields(content["schema"])}
    dotted = [f".{path.replace('.*', '')}" for path in paths] + [f".{path}" for path in paths]
    unused = [
        name
        for name in entries
        if not any(path.endswith((f".{name.replace('.*', '')}", f".{name}")) for path in dotted)
    ]
    assert not unused, f"{file}: no field is called {unused}"
    assert set(entries) <= set(fields_of_tag(tag))
