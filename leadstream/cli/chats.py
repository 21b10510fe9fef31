"""`leadstream chats`: what a provider's message becomes by a mapping, before the mapping goes live."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadstream.cli.options import RUN, settings_from
from leadstream.console import Failure, print_status, print_text, print_warning

if TYPE_CHECKING:
    from gateway.door.chat_mapping import ChatMapping
    from leadstream.settings import Settings

app = typer.Typer()
chats = typer.Typer(no_args_is_help=True, help="Try mappings of chats, and show the built-in ones.")
app.add_typer(chats, name="chats", rich_help_panel=RUN)

LARGEST_PAYLOAD = 1_000_000
MappingName = Annotated[
    str,
    typer.Option(
        "--mapping",
        "-m",
        help="A .toml file, the name of one in LEADSTREAM_CHAT_MAPPINGS, or a built-in one.",
    ),
]


@chats.command("try")
def try_mapping(
    file: Annotated[
        str, typer.Argument(help="The body of a request, as the provider sends it; - reads standard input.")
    ],
    mapping: MappingName,
    name: Annotated[str, typer.Option("--name", help="Name of the chat.")] = "example",
) -> None:
    """Print the events that a provider's message becomes, and record nothing.

    The body is JSON, or a form if the mapping says so. A signature is not
    checked. Each event is printed as the log would have it.
    """
    from gateway.answers import RequestProblem
    from gateway.door.chat_messages import MOST_MESSAGES, events_of
    from gateway.door.messenger_events import decoded, form_parameters
    from gateway.door.pace import run_paced

    settings = settings_from()
    chosen = _mapping(settings, mapping)
    body = _payload(file)
    try:
        content = dict(form_parameters(body.strip())) if chosen.form else decoded(body)
    except RequestProblem as problem:
        raise Failure(f"{file}: {problem.reason}.") from None
    result = asyncio.run(run_paced(events_of(name, chosen, content)))
    refused = sum(not _print_event(settings, raw) for raw in result.events)
    read = min(result.messages, MOST_MESSAGES)
    print_status(
        f"{read} messages: {len(result.events) - refused} events, {refused} refused, {result.ignored} messages ignored, "
        f"{result.skipped} skipped (without a sender or content)."
    )
    if result.messages > MOST_MESSAGES:
        print_warning(f"One request may have at most {MOST_MESSAGES:,} messages.")
    if not result.messages:
        raise Failure("The mapping finds no message: check messages.each.")


@chats.command("show")
def show_mapping(name: Annotated[str, typer.Argument(help="Name of a mapping.")]) -> None:
    """Print a mapping, to make your own from it."""
    from gateway.door.chat_mapping import MappingError, mapping_text

    try:
        print_text(mapping_text(name, settings_from().chat_mappings).rstrip("\n"))
    except MappingError as wrong:
        raise Failure(f"{wrong}.") from None


def _mapping(settings: "Settings", name: str) -> "ChatMapping":
    from gateway.door.chat_mapping import MappingError, load_mapping, mapping_file_text, read_mapping

    try:
        if name.endswith(".toml"):
            return read_mapping(mapping_file_text(Path(name)), name)
        return load_mapping(name, settings.chat_mappings)
    except MappingError as wrong:
        raise Failure(f"{wrong}.") from None


def _payload(file: str) -> bytes:
    try:
        if file == "-":
            body = sys.stdin.buffer.read(LARGEST_PAYLOAD + 1)
        else:
            with Path(file).open("rb") as opened:
                body = opened.read(LARGEST_PAYLOAD + 1)
    except OSError as cause:
        raise Failure(f"{file} cannot be read ({cause.strerror}).") from None
    if len(body) > LARGEST_PAYLOAD:
        raise Failure(f"{file} is longer than {LARGEST_PAYLOAD:,} bytes, the most that a webhook takes.")
    return body


def _print_event(settings: "Settings", raw: dict[str, Any]) -> bool:
    """Whether the door takes the event."""
    from msgspec import json

    from gateway.door.admission import RequestFacts, admit_event, read_producer_event
    from leadstream.clock import utc_now
    from schemas.refusal import Refusal

    now = utc_now()
    facts = RequestFacts(tenant="default", phone_region=settings.default_phone_region)
    try:
        event = admit_event(read_producer_event(json.encode(raw), raw["event_id"], now), facts, now)
    except Refusal as refusal:
        print_warning(f"refused: {refusal.field}: {refusal.reason}")
        return False
    print_text(json.format(json.encode(event), indent=2).decode())
    return True
