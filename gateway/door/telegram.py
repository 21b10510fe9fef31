"""POST /v1/telegram/{bot}: updates of Telegram bots, which become events through the same door as those of POST
/v1/events.

The caller proves itself by the bot's secret. It answers 2xx once the log has the events, and also for updates that mean
nothing, since Telegram repeats an update until it gets a 2xx. It knows no database.
"""

import time
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway import metrics
from gateway.access import AccessDenied
from gateway.answers import JsonAnswer, RequestProblem
from gateway.documented import OBJECT_SCHEMA, answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.messenger_events import decoded, record
from gateway.door.services import door_of
from gateway.door.telegram_bots import SECRET_HEADER, TelegramBot
from gateway.door.telegram_flow import TelegramTalk
from gateway.door.telegram_updates import SOURCE, UpdateEvents, events_of
from gateway.ports import Ports

LARGEST_UPDATE = 256_000
EXAMPLES = example_bodies("telegram")

router = APIRouter(tags=["telegram"])


@router.post(
    "/v1/telegram/{bot}",
    summary="Take an update of a Telegram bot",
    description="The webhook of a bot. The header X-Telegram-Bot-Api-Secret-Token has the bot's secret.",
    openapi_extra=request_docs(EXAMPLES["update"], OBJECT_SCHEMA)
    | {
        "parameters": [
            {
                "name": SECRET_HEADER,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "The bot's secret, as LEADSTREAM_TELEGRAM_BOTS has it.",
            }
        ]
    },
    responses={
        **answer_docs(
            EXAMPLES["answer"],
            "The events are in the log, or the update was skipped.",
            others={"a pressed button": EXAMPLES["button"]},
        ),
        401: {"description": "The secret is missing or wrong."},
        404: {"description": "No bot has this name."},
        503: {"description": "The log takes nothing now; try again after Retry-After seconds."},
    },
)
@router.post("/v1/telegram/{bot}/", include_in_schema=False)
async def take_update(
    request: Request, bot: Annotated[str, Path(description="The name of the bot.")]
) -> Response:
    door = door_of(request)
    sender = bot_of(door.ports, bot)
    if not sender.has_secret(request.headers.get(SECRET_HEADER, "")):
        metrics.REFUSED.labels("access").inc()
        raise AccessDenied(401, f"{SECRET_HEADER} is missing or not the secret of this bot")
    body = await read_body(request, min(LARGEST_UPDATE, door.ports.max_body_bytes))
    door.event_buckets.take(f"{SOURCE}:{bot}", 1, time.monotonic())
    content = decoded(body)
    update = events_of(bot, content)
    talk = TelegramTalk(update.events)
    if sender.replies and update.events:
        talks: TelegramTalks = request.app.state.telegram_replies
        async with talks.talk(sender, update, content) as talk:
            talk.recorded = await record(sender.tenant, talk.raws, door.ports, reply=talk.replies)
    elif update.events:
        talk.recorded = await record(sender.tenant, talk.raws, door.ports)
    recorded = talk.recorded
    result = update.skipped or ("events" if len(recorded) == len(talk.raws) else "refused")
    metrics.TELEGRAM_UPDATES.labels(result).inc()
    answer: dict[str, Any] = {"events": [event.event_id for event in recorded], "skipped": update.skipped}
    if update.callback_query_id is not None and not talk.replies:
        answer |= {"method": "answerCallbackQuery", "callback_query_id": update.callback_query_id}
    return JsonAnswer(answer)


class TelegramTalks(Protocol):
    """Bots that reply. It knows the read models, and the door goes on without them."""

    def talk(
        self, bot: TelegramBot, update: UpdateEvents, content: object
    ) -> AbstractAsyncContextManager[TelegramTalk]: ...


def bot_of(ports: Ports, name: str) -> TelegramBot:
    bot = ports.telegram_bots.get(name)
    if bot is None:
        raise unknown_bot_problem()
    return bot


def unknown_bot_problem() -> RequestProblem:
    return RequestProblem(404, "no bot has this name: LEADSTREAM_TELEGRAM_BOTS lists them", field="bot")
