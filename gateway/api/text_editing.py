"""How an edit of a published text that is refused is answered."""

from collections.abc import Callable
from typing import TypeVar

from gateway.answers import RequestProblem
from schemas.refusal import Refusal
from scoring.editing.text_edits import UneditableText, UnknownId

T = TypeVar("T")


def edited(edit: Callable[[str], T], text: str) -> T:
    """What is made of the text. Raises RequestProblem: 422 names the wrong field, 404 no entry has the id, 409 the text
    does not allow the edit.
    """
    try:
        return edit(text)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    except UnknownId as unknown:
        raise RequestProblem(404, str(unknown.args[0]), field="id") from None
    except UneditableText as uneditable:
        raise RequestProblem(409, str(uneditable)) from None
