"""How the gateway answers: JSON by msgspec, and one shape for everything that went wrong,
`{"error": {"field": ..., "reason": ...}}`. No answer ever shows a stack trace.
"""

import math
from collections.abc import Mapping

from msgspec import json
from starlette.responses import Response

from authoring.problem import Conflict, Invalid, NoLongerKept, NotFound, Problem, TryLater

_encode = json.Encoder(decimal_format="number").encode


class JsonAnswer(Response):
    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return _encode(content)


class RequestProblem(Problem):
    """A request that cannot be served as a whole, and the status that says so."""

    def __init__(
        self, status: int, reason: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason, field=field, retry_after_s=retry_after_s)
        self.status = status


STATUS_BY_PROBLEM: Mapping[type, int] = {
    NotFound: 404,
    Conflict: 409,
    NoLongerKept: 410,
    Invalid: 422,
    TryLater: 503,
}
"""Of what authoring refuses."""


def status_of(problem: Problem) -> int:
    if isinstance(problem, RequestProblem):
        return problem.status
    return next(STATUS_BY_PROBLEM[kind] for kind in type(problem).__mro__ if kind in STATUS_BY_PROBLEM)


def answer_to_problem(problem: Problem, headers: Mapping[str, str] | None = None) -> JsonAnswer:
    status, all_headers = status_of(problem), dict(headers or {})
    if problem.retry_after_s is not None:
        all_headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    if status == 401:
        all_headers["WWW-Authenticate"] = "Bearer"
    return JsonAnswer({"error": {"field": problem.field, "reason": problem.reason}}, status, all_headers)
