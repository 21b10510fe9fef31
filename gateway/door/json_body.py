"""What a request's body says, if it is one JSON object. Whatever is wrong with it becomes a RequestProblem."""

from typing import Any, TypeVar

from msgspec import DecodeError, Struct, ValidationError, convert, json

from gateway.answers import RequestProblem
from schemas.refusal import explain_error, json_type_name

StructType = TypeVar("StructType", bound=Struct)


def json_object(body: bytes) -> dict[str, Any]:
    """Problem 400 if the body is no JSON, 422 if it is something else than an object."""
    try:
        content = json.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestProblem(400, f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestProblem(422, f"the body must be an object, not {json_type_name(content)}")
    return content


def struct_of(content: dict[str, Any], kind: type[StructType]) -> StructType:
    """Problem 422 names the field that is wrong."""
    try:
        return convert(content, kind)
    except ValidationError as error:
        refusal = explain_error(error, content, kind)
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
