"""`leadstream telegram`: fetches the updates of Telegram bots, for servers that Telegram cannot reach."""

from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import RUN, settings_from
from leadstream.console import Failure, print_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.door.telegram_bots import TelegramBot
    from leadstream.settings import Settings

app = typer.Typer()


@app.command(rich_help_panel=RUN)
def telegram(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BOT]...", help="Names of bots. Default: every bot of the settings."),
    ] = None,
    set_webhook: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option("--set-webhook", help="Have Telegram send updates to LEADSTREAM_PUBLIC_URL, and end."),
    ] = False,
    delete_webhook: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--delete-webhook", help="Have Telegram send updates nowhere, and end.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of the server. Default: http://LEADSTREAM_HOST:LEADSTREAM_PORT.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch updates of Telegram bots, and deliver them to a running server (long polling).

    The bots are those of LEADSTREAM_TELEGRAM_BOTS, which the server needs,
    too. Ctrl-C or SIGTERM stops it. What was not delivered waits at Telegram
    for a day. A server that Telegram can reach needs no polling: register
    its address with --set-webhook.
    """
    from leadstream.cli.serve import until_stopped
    from leadstream.logs import configure_logs
    from leadstream.operations import telegram_polling

    settings = settings_from()
    configure_logs(settings.log_level)
    bots = _bots(settings, names or [])
    if server is not None and not server.startswith(("http://", "https://")):
        raise Failure(f"--server: {server} is no address: write http://HOST:PORT.")
    if set_webhook and delete_webhook:
        raise Failure("--set-webhook and --delete-webhook exclude each other.")
    if set_webhook:
        if settings.public_url is None:
            raise Failure(
                "LEADSTREAM_PUBLIC_URL is not set: set it to the https address at which Telegram reaches the server."
            )
        for bot in bots:
            address = telegram_polling.set_webhook(settings.telegram_api, bot, settings.public_url)
            print_status(f"Telegram sends the updates of {bot.name} to {address}.")
        return
    if delete_webhook:
        for bot in bots:
            telegram_polling.delete_webhook(settings.telegram_api, bot)
            print_status(f"Telegram sends the updates of {bot.name} nowhere.")
        return
    with until_stopped():
        _poll(settings.telegram_api, bots, (server or settings.address).rstrip("/"))


def _bots(settings: "Settings", names: "Sequence[str]") -> "list[TelegramBot]":
    bots = settings.bots
    if not bots:
        raise Failure("LEADSTREAM_TELEGRAM_BOTS is not set: list the bots, each TENANT:NAME:SECRET:TOKEN.")
    unknown = [name for name in names if name not in bots]
    if unknown:
        raise Failure(f"No bot is called {unknown[0]}: there are {', '.join(bots)}.")
    return [bots[name] for name in names or bots]


def _poll(api: str, bots: "Sequence[TelegramBot]", address: str) -> None:
    """A thread for each bot, until one fails. They end with the process: a request for updates takes long."""
    import queue
    import threading

    from leadstream.operations.telegram_polling import deliver_to, follow
    from leadstream.signals import interrupt_on_signal

    failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    deliver = deliver_to(address)

    def run(bot: "TelegramBot") -> None:
        try:
            follow(api, bot, deliver)
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            failures.put(failure)

    for bot in bots:
        threading.Thread(target=run, args=(bot,), name=f"poll {bot.name}", daemon=True).start()
    print_status(f"Updates of {', '.join(bot.name for bot in bots)} go to {address}. Ctrl-C stops it.")
    interrupt_on_signal()
    raise failures.get()
