"""The description of the API (/openapi.json): types and descriptions of every field, keys, and errors.

An endpoint gives example bodies. Their schemas follow from them and from `gateway/fields`, where each field is described
once: `shared.toml` has what means the same everywhere, and the file of a tag (`lead scores` -> `lead_scores.toml`) what
only its endpoints have. An entry is a description, or a table:

    page_views = "Pages that the lead has viewed."
    email = { type = "string", nullable = true, description = "..." }

Its name is that of the field, or ends a path to it (`"variants.weight"`), and the longest match is the one used. The path
begins with the last word of the address (`"bulk_calculate.id"`). Without a type, the example has it. Other keys are those of JSON Schema, except:

- `nullable`: null is possible, and the description says what it means
- `optional`: not every answer has the field; or, of a request, `required`: every request has it
- `keys`: the keys of the object are data; this says what they are (`"bands.*"` describes the values)
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, reduce
from importlib.resources import files
from typing import Any, NamedTuple

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from gateway.documented import PROBLEM_EXAMPLE

Schema = dict[str, Any]
Entry = Mapping[str, Any]
METHODS = frozenset({"get", "put", "post", "delete", "patch"})


class Fields(NamedTuple):
    """What is written about fields, and the word of the address that begins a path to one."""

    entries: Mapping[str, Any]
    root: str = ""


OUR_KEYS = frozenset({"nullable", "optional", "required", "keys"})
KEYLESS: Mapping[str, str] = {
    "/health": "it shows nothing of a tenant",
    "/ready": "it shows nothing of a tenant",
    "/track.js": "the script is the same for everybody",
    "/chat.js": "the script is the same for everybody",
    "/v1/telegram/{bot}": "the bot's secret protects it",
    "/l/{token}": "people follow links; the token is signed",
    "/o/{token}.gif": "programs for mail load the picture; the token is signed",
    "/v1/chats/{chat}": "the provider's signature or secret protects it, and a verify token its check",
    "/v1/crm/{crm}": "the CRM's signature, password or token protects it",
    "/v1/whatsapp/{number}": "Meta's signature protects it, and a verify token its check",
    "/sign-in": "people get in here; a token of the form protects it",
    "/sign-in/oidc": "people get in here, by their provider",
    "/sign-in/oidc/callback": "the provider's signature protects it",
    "/sign-out": "a token of the form protects it",
}
"""Addresses that take no key of ours, each with the reason."""
KEYS: Mapping[str, Any] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `leadstream keys create`, or a token of LEADSTREAM_API_TOKENS. It is secret, and belongs to a "
        "tenant. Browsers of people who have signed in send a cookie in its place (docs/access.md).",
    },
    "write_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Write-Key",
        "description": "A key with the scope collect alone, or one of LEADSTREAM_WRITE_KEYS. It is public: it may only send.",
    },
}
PROBLEMS: Mapping[str, str] = {
    "4XX": "The request cannot be served: 404 nothing has this id, 405 another method is needed, 409 it does not fit "
    "the current state, 413 the body is too large, 429 too many requests.",
    "400": "The body is not JSON.",
    "401": "The key is missing or not known.",
    "403": "The key or the role may not do this: the reason names the scope.",
    "422": "A parameter or a field is wrong: `field` names it.",
    "503": "The database or the log does not answer. Try again after `Retry-After` seconds.",
}


@cache
def fields_of_tag(tag: str) -> Mapping[str, Any]:
    folder = files("gateway") / "fields"
    described: dict[str, Any] = {}
    for name in ("shared", tag.replace(" ", "_")):
        file = folder / f"{name}.toml"
        if file.is_file():
            described |= tomllib.loads(file.read_text(encoding="utf-8"))
    return described


def completed(openapi: dict[str, Any], routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """OpenAPI as FastAPI makes it of the routes, with what this module knows."""
    by_address = {
        (route.path_format, method.lower()): route
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    openapi["components"] = {
        "securitySchemes": dict(KEYS),
        "schemas": {"Problem": schema_of(PROBLEM_EXAMPLE, Fields(fields_of_tag("shared")))},
    }
    for path, operations in openapi["paths"].items():
        for method in METHODS:
            if method in operations:
                _restore_examples(operations[method], by_address[path, method])
                _complete(path, method, operations[method])
    return openapi


def _restore_examples(operation: dict[str, Any], route: APIRoute) -> None:
    """FastAPI drops every null, also those of examples."""
    extra = route.openapi_extra or {}
    written = {**route.responses, **extra.get("responses", {})}
    pairs = [(operation.get("requestBody", {}), extra.get("requestBody", {}))]
    pairs += [(operation["responses"].get(str(status), {}), each) for status, each in written.items()]
    for shown, original in pairs:
        for media_type, content in original.get("content", {}).items():
            shown["content"][media_type] |= {
                name: content[name] for name in ("example", "examples") if name in content
            }


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    words = [each for each in path.split("/") if each and not each.startswith("{")]
    fields = Fields(fields_of_tag(operation["tags"][0]), words[-1])
    _drop_fastapis_problem(operation["responses"])
    parameters = operation.get("parameters", [])
    for each in parameters:
        _describe(each, _entry(fields, [each["name"]]))
        each["schema"].pop("title", None)
    _complete_request(operation, fields)
    responses = operation["responses"]
    for response in list(responses.values()):
        _complete_response(response, fields, changing=method != "get")
    succeeded: dict[str, Any] = next(
        (each for status, each in responses.items() if status in {"200", "201"}), {}
    )
    if "202" in responses and "content" not in responses["202"]:
        responses["202"]["content"] = _content_of_later(succeeded.get("content", {}), fields)
    keyless = path in KEYLESS
    for status, description in PROBLEMS.items():
        if status == "400" and "requestBody" not in operation:
            continue
        if keyless and status == "401" and status not in responses:
            continue
        problem = responses.setdefault(status, {"description": description})
        if "content" not in problem:
            problem["content"] = {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": PROBLEM_EXAMPLE,
                }
            }
    for status, response in responses.items():
        if status[0] in "45" and "content" not in response:
            response["content"] = responses["4XX"]["content"]
    takes_write_key = any(each["name"] == "write_key" for each in parameters)
    operation["security"] = (
        [] if keyless else [{"token": list[str]()}, *([{"write_key": list[str]()}] * takes_write_key)]
    )


def _drop_fastapis_problem(responses: dict[str, Any]) -> None:
    """The schema that FastAPI gives to every 422: its own answers never get out."""
    content = responses.get("422", {}).get("content", {}).get("application/json", {})
    if "HTTPValidationError" in str(content.get("schema")):
        del content["schema"]
        if not content:
            del responses["422"]


def _complete_request(operation: dict[str, Any], fields: Fields) -> None:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content.get("schema", {})
        if schema == {"type": "object"}:
            content["schema"] = schema_of(content.get("example"), fields, request=True)
        else:
            _describe_fields(schema, fields, [])


def _complete_response(response: dict[str, Any], fields: Fields, *, changing: bool) -> None:
    """A token that may only write gets fewer fields in answer to a change, so none of them is sure."""
    for content in response.get("content", {}).values():
        if content.get("schema") or not (examples := examples_of(content)):
            continue
        content["schema"] = schema = _merged([schema_of(each, fields) for each in examples])
        if changing:
            schema.pop("required", None)


def _content_of_later(content: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Of an answer that comes before the result: the same fields, and where to look."""
    later: dict[str, Any] = {}
    for media_type, each in content.items():
        schema = {name: value for name, value in each["schema"].items() if name != "required"}
        location = _described("/api/events/3f0c", _entry(fields, ["location"]))
        if "properties" in schema:
            schema["properties"] = {**schema["properties"], "location": location}
        later[media_type] = {**each, "schema": schema}
    return later


def examples_of(content: Mapping[str, Any]) -> list[Any]:
    """The example bodies of a media type."""
    return [
        *([content["example"]] if "example" in content else []),
        *(each["value"] for each in content.get("examples", {}).values()),
    ]


def schema_of(example: object, fields: Fields, *, request: bool = False) -> Schema:
    """The JSON Schema of an example body."""
    return _schema(example, fields, [], request=request)


def _schema(example: object, fields: Fields, path: Sequence[str], *, request: bool) -> Schema:
    entry = _entry(fields, path) if path else {}
    schema = _described(example, entry)
    if "$ref" in schema or "anyOf" in schema:
        return schema
    if isinstance(example, Mapping) and "properties" not in schema and "additionalProperties" not in schema:
        if "keys" in entry:
            schema["propertyNames"] = {"description": entry["keys"]}
            values = [_schema(each, fields, [*path, "*"], request=request) for each in example.values()]
            schema["additionalProperties"] = _merged(values)
        else:
            schema["properties"] = {
                name: _schema(each, fields, [*path, name], request=request) for name, each in example.items()
            }
            schema["required"] = [
                name for name in example if _is_required(_entry(fields, [*path, name]), request=request)
            ]
    if isinstance(example, Sequence) and not isinstance(example, str) and "items" not in schema:
        schema["items"] = _merged([_schema(each, fields, path, request=request) for each in example])
        schema["items"].pop("description", None)
    return schema


def _is_required(entry: Entry, *, request: bool) -> bool:
    return bool(entry.get("required")) if request else not entry.get("optional")


def _merged(schemas: Iterable[Schema]) -> Schema:
    """One schema for all of them: every property of any, and those required that all require."""
    return reduce(_merged_two, schemas, {})


def _merged_two(one: Schema, other: Schema) -> Schema:
    if not one:
        return other
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"]}
        for name, each in other["properties"].items():
            merged["properties"][name] = _merged_two(one["properties"].get(name, {}), each)
        merged["required"] = [name for name in one.get("required", ()) if name in other.get("required", ())]
    for name in ("items", "additionalProperties"):
        if isinstance(one.get(name), dict) and isinstance(other.get(name), dict):
            merged[name] = _merged_two(one[name], other[name])
    return merged


def _entry(fields: Fields, path: Sequence[str]) -> Entry:
    """What is written about the field at this path, under its longest name."""
    names = [fields.root, *path]
    for begin in range(len(names)):
        entry = fields.entries.get(".".join(names[begin:]))
        if entry is not None:
            return {"description": entry} if isinstance(entry, str) else entry
    return {}


def _described(example: object, entry: Entry) -> Schema:
    schema: Schema = {name: value for name, value in entry.items() if name not in OUR_KEYS}
    if "$ref" not in schema and "anyOf" not in schema:
        of_value = "string" if example is None and "format" in schema else _type_of(example)
        kind = schema.get("type", of_value)
        if entry.get("nullable"):
            kind = [kind, "null"] if isinstance(kind, str) else [*kind, "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        schema["type"] = kind
    return schema


def _type_of(example: object) -> str:
    match example:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def _describe(described: dict[str, Any], entry: Entry) -> None:
    if "description" in entry:
        described.setdefault("description", entry["description"])


def _describe_fields(schema: Schema, fields: Fields, path: Sequence[str]) -> None:
    """Of a schema that was made of types: what they do not say themselves."""
    schema.pop("title", None)
    if schema.get("type") == "object" and not {"properties", "additionalProperties"} & schema.keys():
        schema["additionalProperties"] = True
    for name, each in schema.get("properties", {}).items():
        _describe(each, _entry(fields, [*path, name]))
        _describe_fields(each, fields, [*path, name])
    for each in _parts(schema):
        _describe_fields(each, fields, path)


def _parts(schema: Schema) -> Iterator[Schema]:
    for name in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(name, [])
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield schema[name]
