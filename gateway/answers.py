"""How the gateway answers: JSON by msgspec, and one shape for everything that went wrong,
`{"error": {"field": ..., "reason": ...}}`. No answer ever shows a stack trace.
"""

import math
from collections.abc import Mapping

from msgspec import json
from starlette.responses import Response

_encode = json.Encoder(decimal_format="number").encode


class Json(Response):
    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return _encode(content)


class RequestProblem(Exception):
    """A request that cannot be served as a whole."""

    def __init__(
        self, status: int, reason: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s


def answer_to(problem: RequestProblem, headers: Mapping[str, str] | None = None) -> Json:
    told = dict(headers or {})
    if problem.retry_after_s is not None:
        told["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.status == 401:
        told["WWW-Authenticate"] = "Bearer"
    return Json({"error": {"field": problem.field, "reason": problem.reason}}, problem.status, told)
