"""Long polling: asks Telegram for the updates of a bot and delivers each to the webhook of a running server.

So that there is one door, and one place that decides what an update means. Telegram keeps an update until the next
request has a higher offset, so an update that was not delivered comes again, also after a restart: nothing is stored
here. An update that comes twice counts once, by its event ids.
"""

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import structlog
from msgspec import DecodeError, json

from gateway import telegram_client
from gateway.door.telegram_bots import SECRET_HEADER, TelegramBot
from gateway.door.telegram_updates import READ_KINDS
from gateway.telegram_client import TelegramRefused, TelegramUnavailable
from leadstream.console import Failure

POLL_SECONDS: Final = 50
"""How long Telegram keeps a request open while there are no updates."""
PATIENCE: Final = 10.0
MOST_UPDATES: Final = 100
PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE: Final = 60.0

Deliver = Callable[[TelegramBot, Mapping[str, Any]], Mapping[str, Any]]
"""Hands an update to the server and returns its answer. Raises NotDelivered, and Failure for what will not pass."""

_log = structlog.get_logger(__name__)


class NotDelivered(Exception):
    """The server does not take the update now; it stays with Telegram."""


def deliver_to(address: str) -> Deliver:
    """Delivers to the server at this address."""

    def deliver(bot: TelegramBot, update: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = {"Content-Type": "application/json", SECRET_HEADER: bot.secret}
        request = Request(f"{address}/v1/telegram/{bot.name}", json.encode(update), headers)  # noqa: S310 - a setting
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
                return _object(answer.read(65_536))
        except HTTPError as error:
            error.close()
            if error.code in {401, 403, 404}:
                raise Failure(
                    f"The server at {address} does not know the bot {bot.name} or its secret ({error.code}): give it "
                    "the same LEADSTREAM_TELEGRAM_BOTS, and start it again."
                ) from None
            if error.code in {400, 413, 422}:
                _log.warning("update refused", bot=bot.name, status=error.code)
                return {}
            raise NotDelivered(f"the server at {address} answers {error.code}") from None
        except (URLError, OSError, http.client.HTTPException) as cause:
            raise NotDelivered(f"the server at {address} cannot be reached") from cause

    return deliver


def _delivered(api: str, bot: TelegramBot, deliver: Deliver, offset: int | None) -> Iterator[int]:
    """Asks for updates and delivers them. Yields, after each delivery, the offset that confirms it with the next
    request. Raises NotDelivered, TelegramRefused and TelegramUnavailable.
    """
    parameters = {"timeout": POLL_SECONDS, "limit": MOST_UPDATES, "allowed_updates": READ_KINDS}
    if offset is not None:
        parameters["offset"] = offset
    updates = telegram_client.call(api, bot, "getUpdates", parameters, POLL_SECONDS + PATIENCE)
    for update in updates if isinstance(updates, list) else ():
        update_id = update.get("update_id") if isinstance(update, dict) else None
        if not isinstance(update_id, int):
            raise TelegramUnavailable("an update has no update_id")
        answer = deliver(bot, update)
        yield update_id + 1
        _answer_query(api, bot, answer)


def _answer_query(api: str, bot: TelegramBot, answer: Mapping[str, Any]) -> None:
    """Answers the press of a button, as Telegram itself does with the answer of a webhook. Too late is no matter."""
    if answer.get("method") != "answerCallbackQuery":
        return
    try:
        telegram_client.call(
            api, bot, "answerCallbackQuery", {"callback_query_id": answer.get("callback_query_id")}
        )
    except (TelegramRefused, TelegramUnavailable):
        _log.info("the press of a button was not answered", bot=bot.name)


def follow(api: str, bot: TelegramBot, deliver: Deliver, sleep: Callable[[float], None] = time.sleep) -> None:
    """Polls for ever. Pauses while Telegram or the server is unavailable. Raises Failure for what needs a person."""
    offset: int | None = None
    pause = 0.0
    while True:
        began, before = time.monotonic(), offset
        try:
            for delivered in _delivered(api, bot, deliver, offset):
                offset, pause = delivered, 0.0
            pause = 0.0
            if offset == before and time.monotonic() - began < PAUSE_SECONDS:
                sleep(PAUSE_SECONDS)  # something between answers at once, where Telegram would wait
            continue
        except TelegramRefused as refused:
            if refused.code in {401, 403, 404, 409}:
                raise Failure(refusal_of(bot, refused)) from None
            least = float(refused.retry_after_s or 0)
            _log.warning("Telegram refuses", bot=bot.name, reason=refused.description)
        except (TelegramUnavailable, NotDelivered) as cause:
            least = 0.0
            _log.warning("updates wait", bot=bot.name, reason=str(cause))
        pause = _longer(pause)
        sleep(max(least, pause))


def _longer(pause: float) -> float:
    return min(LONGEST_PAUSE, 2 * pause or PAUSE_SECONDS)


def set_webhook(api: str, bot: TelegramBot, public_url: str) -> str:
    """Tells Telegram to send the bot's updates to the server. Returns the address. Raises Failure."""
    address = f"{public_url.rstrip('/')}/v1/telegram/{bot.name}"
    parameters = {"url": address, "secret_token": bot.secret, "allowed_updates": READ_KINDS}
    _call(api, bot, "setWebhook", parameters)
    return address


def delete_webhook(api: str, bot: TelegramBot) -> None:
    """Raises Failure."""
    _call(api, bot, "deleteWebhook", {})


def _call(api: str, bot: TelegramBot, method: str, parameters: Mapping[str, Any]) -> None:
    try:
        telegram_client.call(api, bot, method, parameters)
    except TelegramRefused as refused:
        raise Failure(refusal_of(bot, refused)) from None
    except TelegramUnavailable as cause:
        raise Failure(f"Telegram ({api}) does not answer: {cause}. Try again.") from None


def refusal_of(bot: TelegramBot, refused: TelegramRefused) -> str:
    """Why Telegram refuses, and the remedy."""
    text = f"Telegram refuses the bot {bot.name}: {refused.description or refused.code}."
    if refused.code in {401, 404}:
        return f"{text} Check its token in LEADSTREAM_TELEGRAM_BOTS."
    if refused.code == 409 and "webhook" in refused.description:
        return f"{text} Run `leadstream telegram --delete-webhook` first."
    if refused.code == 409:
        return f"{text} Another program polls for this bot: end it."
    return text


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.decode(body)
    except DecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
