"""Every command either only reads, or leaves a row in the audit log. A new one has to say which."""

import sys
from types import CodeType, FunctionType

import pytest
import typer

from leadstream.cli import export as export_command
from leadstream.cli.root import app

READS = frozenset(
    [
        "backtest",
        "chats-show",
        "chats-try",
        "crm-status",
        "dead-letters-list",
        "delivery-check",
        "delivery-status",
        "delivery-try",
        "doctor",
        "enrichment-status",
        "erasures",
        "experiment",
        "explain",
        "links-catalog",
        "links-email",
        "links-qr",
        "links-show",
        "models",
        "models-diff",
        "models-drafts",
        "models-show",
        "models-versions",
        "recalculate",
        "settings",
        "topics-check",
        "topics-create",
        "what-if",
        "workflows",
        "workflows-diff",
        "workflows-history",
        "workflows-list",
        "workflows-preview",
        "workflows-show",
    ]
)
"""It looks at a store, or at none. What copies records of people out of it is not among them."""
RUNS = frozenset({"delivery", "demo", "gateway", "project", "serve", "telegram", "worker"})
"""It runs a part of Leadstream, whose own changes are in the log."""
RECORDS = {"recorded_command", "record_command", "record_entry", "run_on_accounts"}


def commands():
    def walk(command, path):
        if getattr(command, "commands", None):
            for name, each in command.commands.items():
                yield from walk(each, [*path, name])
        if command.callback is not None and path:
            yield "-".join(path), command.callback

    yield from walk(typer.main.get_command(app), [])


def names_used(function, seen):
    """Names in the function, and in those of its module that it calls."""
    function = getattr(function, "__wrapped__", function)
    code: CodeType = function.__code__
    names = set(code.co_names) | set(code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= set(constant.co_names)
    for name in list(names):
        other = vars(sys.modules[function.__module__]).get(name)
        if isinstance(other, FunctionType) and other.__module__ == function.__module__ and name not in seen:
            names |= names_used(other, seen | names)
    return names


ALL = list(commands())


@pytest.mark.parametrize(("name", "callback"), [pytest.param(*each, id=each[0]) for each in ALL])
def test_a_command_that_changes_a_store_leaves_a_row(name, callback):
    assert name in READS | RUNS or names_used(callback, set()) & RECORDS


@pytest.mark.parametrize("export", [export_command._export_to_file, export_command._export_to_kafka])
def test_both_ways_of_an_export_leave_a_row(export):
    assert names_used(export, set()) & RECORDS


def test_no_command_is_listed_that_does_not_exist():
    assert {name for name, _ in ALL} >= READS | RUNS
