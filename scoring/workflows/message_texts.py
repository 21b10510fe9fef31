"""Texts of published workflows with places for values, as Jinja writes them: `{{ lead.name }}`. Pure.

They have places for values only (no loops, no calls, no arithmetic), so that none costs more than its length. Whoever
publishes one learns what is wrong with it; whoever carries it out checks it again, since earlier versions took any text.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.exceptions import TemplateError

from scoring.workflows.workflow import Workflow
from scoring.workflows.workflow_text import UnknownReference

MESSAGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "send_email": ("subject", "text"),
    "send_notification": ("title", "message"),
    "create_task": ("title", "description"),
}
"""By action, the keys whose texts may have places for values."""
VALUE_NAMES: Final[Mapping[str, frozenset[str] | None]] = {
    "lead": frozenset(
        {"id", "name", "email", "phone", "company", "stage", "assigned_to", "fields", "scores"}
    ),
    "owner": frozenset({"id", "name", "email"}),
    "workflow": frozenset({"id", "name", "trigger"}),
    "reason": None,
    "at": None,
    "execution_id": None,
    "tenant": None,
}
"""Every name that a text may use, with what it has."""
LEAD_MAPPINGS: Final = frozenset({"fields", "scores"})
"""Parts of the lead with any names: what a lead lacks is blank."""
_PLAIN_NODES: Final = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Const,
    nodes.Or,
    nodes.Filter,
)
_PLAIN_FILTERS: Final = frozenset({"default", "d", "upper", "lower", "title", "capitalize", "trim"})
_PARSER: Final = Environment(autoescape=False, keep_trailing_newline=True)  # noqa: S701 - nothing is rendered by it


class MessageTextError(ValueError):
    """What a text has beside places for values, in words."""


def unusable_messages(workflows: Iterable[Workflow]) -> list[UnknownReference]:
    """The texts of messages that cannot be made, each with the reason."""
    mistakes = []
    for workflow in workflows:
        for key in MESSAGE_KEYS.get(workflow.action, ()):
            text: Any = workflow.config.get(key)
            try:
                if isinstance(text, str):
                    check_message_text(text)
            except MessageTextError as mistake:
                mistakes.append(UnknownReference(workflow.id, f"action.{key}", str(mistake)))
    return mistakes


def check_message_text(text: str) -> None:
    """Raises MessageTextError unless the text has places for values only, and only for values that there are."""
    refuse_logic(text)
    for node in _PARSER.parse(text).find_all((nodes.Name, nodes.Getattr, nodes.Getitem)):
        path = _path_of(node)
        if path is not None:
            _check_path(path)


def refuse_logic(text: str) -> None:
    """Raises MessageTextError unless the text has places for values only."""
    try:
        tree = _PARSER.parse(text)
    except TemplateSyntaxError as cause:
        raise MessageTextError(cause.message or "it cannot be read") from cause
    except TemplateError as cause:
        raise MessageTextError(str(cause)) from cause
    except RecursionError:
        raise MessageTextError("it is nested too deeply") from None
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _PLAIN_NODES) or (
            isinstance(node, nodes.Filter) and node.name not in _PLAIN_FILTERS
        ):
            raise MessageTextError(
                f"{type(node).__name__.lower()} is not for texts of workflows: use {{{{ lead.name }}}} and the like"
            )


def _path_of(node: nodes.Node) -> list[str] | None:
    """lead.fields.budget as ["lead", "fields", "budget"]; None: it is not made of names."""
    names: list[str] = []
    while True:
        match node:
            case nodes.Name():
                return [node.name, *reversed(names)]
            case nodes.Getattr():
                names.append(node.attr)
                node = node.node
            case nodes.Getitem(arg=nodes.Const() as constant) if isinstance(constant.value, str):
                names.append(constant.value)
                node = node.node
            case _:
                return None


def _check_path(path: list[str]) -> None:
    """Raises MessageTextError for a name that no message has."""
    name, *rest = path
    if name not in VALUE_NAMES:
        raise MessageTextError(f"there is no {name!r}; there are {', '.join(VALUE_NAMES)}")
    if not rest:
        return
    parts = VALUE_NAMES[name] or frozenset()
    if rest[0] not in parts:
        names = f"; it has {', '.join(sorted(parts))}" if parts else ""
        raise MessageTextError(f"{name} has no {rest[0]!r}{names}")
    deepest = 2 if name == "lead" and rest[0] in LEAD_MAPPINGS else 1
    if len(rest) > deepest:
        raise MessageTextError(f"{'.'.join([name, *rest[:deepest]])} has no parts")
