"""How OpenAPI shows what an endpoint takes and answers. The example bodies are files in `gateway/examples`."""

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from msgspec import Struct, json

from schemas.events import AMOUNT_LIMITS

Responses = dict[int | str, dict[str, Any]]
OBJECT_SCHEMA: Mapping[str, Any] = MappingProxyType({"type": "object"})
"""Of a body whose fields follow from its example (`gateway.openapi`)."""
PROBLEM_EXAMPLE: Mapping[str, Any] = {"error": {"field": "limit", "reason": "must be at most 500"}}


def example_bodies(name: str) -> dict[str, Any]:
    """The example bodies of one module of handlers, by name."""
    content: dict[str, Any] = json.decode((files("gateway") / "examples" / f"{name}.json").read_bytes())
    return content


def answer_docs(
    example: object,
    description: str | None = None,
    *,
    status: int = 200,
    others: Mapping[str, object] | None = None,
) -> Responses:
    """`responses` of an endpoint: a body of this status, and others that differ, by what they show."""
    shown: dict[str, Any] = {"example": example}
    if others:
        bodies = {"usual": example, **others}
        shown = {"examples": {name: {"value": body} for name, body in bodies.items()}}
    content: dict[str, Any] = {"content": {"application/json": shown}}
    return {status: content if description is None else {"description": description, **content}}


def request_docs(
    example: object, schema: Mapping[str, Any] = OBJECT_SCHEMA, *, required: bool = True
) -> dict[str, Any]:
    """`openapi_extra` of an endpoint: the body of its request."""
    content = {"application/json": {"schema": dict(schema), "example": example}}
    return {"requestBody": {"required": required, "content": content}}


def body_schema_of(kind: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of a request's body."""
    _, schemas = json.schema_components([kind], ref_template="{name}")
    schema: dict[str, Any] = _with_amounts(schemas[kind.__name__])
    return schema


def _with_amounts(schema: Any) -> Any:
    """Callers send amounts as numbers too, which msgspec's schema of a decimal does not say."""
    match schema:
        case {"type": "string", "format": "decimal", **rest}:
            return {**rest, "type": ["number", "string"], **AMOUNT_LIMITS}
        case dict():
            return {name: _with_amounts(each) for name, each in schema.items()}
        case list():
            return [_with_amounts(each) for each in schema]
        case _:
            return schema
