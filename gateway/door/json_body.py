"""What a request's body says, if it is one JSON object. Whatever is wrong with it becomes a RequestProblem."""

from collections.abc import Collection
from typing import Any, TypeVar

from msgspec import DecodeError, Struct, ValidationError, convert, json

from gateway.answers import RequestProblem
from gateway.unknown_names import LONGEST_NAME_SHOWN, unknown_name
from schemas.refusal import explain_error, json_type_name

StructType = TypeVar("StructType", bound=Struct)


def json_object(body: bytes) -> dict[str, Any]:
    """Problem 400 if the body is no JSON, 422 if it is something else than an object."""
    if not body.strip():
        raise RequestProblem(400, "the body is empty: a JSON object is needed")
    try:
        content = json.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestProblem(400, f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestProblem(422, f"the body must be an object, not {json_type_name(content)}")
    return content


def refuse_fields(body: bytes) -> None:
    """Of a request that needs no body: an empty one, or an empty object. Problem 422 names a field, which would have no
    effect.
    """
    if body.strip():
        refuse_unknown_fields(json_object(body), ())


def struct_of(content: dict[str, Any], kind: type[StructType]) -> StructType:
    """Problem 422 names the field that is wrong, or that the kind does not have."""
    refuse_unknown_fields(content, kind.__struct_encode_fields__)
    return known_fields_of(content, kind)


def refuse_unknown_fields(content: dict[str, Any], names: Collection[str]) -> None:
    """Problem 422: a misspelt field would have no effect, and nobody would learn of it."""
    for name in content:
        if name not in names:
            raise RequestProblem(422, unknown_name("field", name, names), field=name[:LONGEST_NAME_SHOWN])


def known_fields_of(content: dict[str, Any], kind: type[StructType]) -> StructType:
    """Fields that the kind does not have are ignored: for pages and chats, where an answer of a person is worth more
    than the hint. Problem 422 names the field that is wrong.
    """
    try:
        return convert(content, kind)
    except ValidationError as error:
        refusal = explain_error(error, content, kind)
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
