"""Replies of Telegram bots: the bot asks the questions of the flow, and thanks.

What it has asked follows from the events that are recorded, so a restart or another gateway goes on with the talk.
A turn of a talk takes these steps:

1. Read what is recorded of the session, and make the turn's events of it. Turns of one person wait for each other.
2. The door appends them with the events of the update, in one request to the log, and answers Telegram.
3. Wait until they show in the read models.
4. Look which delivery of the update the log has kept, by the time at which it was recorded. Only that one replies, so a
   repetition gets no second reply.
5. Send. Nothing is sent again, unless Telegram has refused it for a while (429).

If a step fails, the update stays recorded and the person gets no reply; the next message gets one. A process that is
killed between 2 and 5 sends none either. The reply is never a condition for recording.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

import structlog

from gateway import metrics, telegram_client
from gateway.answers import RequestProblem
from gateway.api.chat_sessions import flow_of
from gateway.api.services import ApiServices
from gateway.door.messenger_events import record
from gateway.door.telegram_bots import TelegramBot
from gateway.door.telegram_flow import (
    FlowTurn,
    TelegramTalk,
    TurnEvents,
    is_old,
    message_of,
    reply_of,
    turn_events,
    turn_of,
)
from gateway.door.telegram_updates import UpdateEvents, visitor_id_of
from gateway.ports import event_key
from gateway.telegram_client import TelegramRefused, TelegramUnavailable
from projections import chat
from schemas.envelope import Event, tag_of
from schemas.events import QuestionAnswered, QuestionsCompleted
from schemas.moment import millis
from scoring.chat import conversation as chats
from scoring.chat.conversation import ChatEvent, Conversation
from scoring.chat.flow import ChatFlow, next_question
from scoring.chat.replies import language_of

BEFORE_SECONDS: Final = 5.0
"""So long an update waits for the turn before it, and for the read models."""
APPLY_SECONDS: Final = 20.0
LOOKS, PAUSE_SECONDS = 50, 0.1
"""So often, after so many seconds each, the events of a turn are looked up once they are applied."""
MOST_TALKS: Final = 500
"""Turns that wait for their replies at a time."""
MOST_TRIES: Final = 3
LONGEST_RETRY_SECONDS: Final = 30
LONGEST_SECONDS: Final = 3_600.0
"""An answer that took longer came back another time: it has no duration."""

log = structlog.get_logger("gateway")


class RecordedChat(NamedTuple):
    """What is recorded of a session."""

    conversation: Conversation
    answers: Mapping[str, str]
    """The latest ones, by the question's id."""
    latest_at: datetime | None


class PreparedTurn(NamedTuple):
    bot: TelegramBot
    turn: FlowTurn
    flow: ChatFlow
    before: RecordedChat
    done: TurnEvents


class TelegramReplies:
    """The talks of this process's bots."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._replying: set[asyncio.Task[None]] = set()
        self._calls = ThreadPoolExecutor(4, thread_name_prefix="send to Telegram")

    async def settled(self) -> None:
        """Returns when no reply waits any more."""
        while self._replying:
            await asyncio.wait(self._replying)

    async def end(self) -> None:
        """The process stops: replies that wait are given up."""
        for task in self._replying:
            task.cancel()
        await asyncio.gather(*self._replying, return_exceptions=True)
        self._calls.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def talk(
        self, bot: TelegramBot, update: UpdateEvents, content: object
    ) -> AsyncIterator[TelegramTalk]:
        """The caller records `raws` and sets `recorded`; the reply follows after that. Whatever fails here leaves the
        update's own events.
        """
        talk = TelegramTalk(update.events)
        turn = turn_of(content) if update.events else None
        if turn is None:
            yield talk
            return
        if is_old(turn, self._services.ports.now().timestamp()):
            _count("old")
            yield talk
            return
        visitor_id = visitor_id_of(bot.name, turn.user_id)
        lock = self._turns.setdefault(visitor_id, asyncio.Lock())
        acquired = await _acquired(lock)
        try:
            prepared = await self._prepared(bot, turn, visitor_id) if acquired else None
            if not acquired:
                _count("busy")
            if prepared is not None:
                talk.take(turn, prepared.done.events)
            yield talk
            if prepared is not None and talk.recorded:
                task = asyncio.create_task(
                    self._reply(prepared, talk.recorded, visitor_id, lock), name="reply"
                )
                self._replying.add(task)
                task.add_done_callback(self._replying.discard)
                acquired = False  # the task releases it
        finally:
            if acquired:
                lock.release()

    async def _prepared(self, bot: TelegramBot, turn: FlowTurn, visitor_id: str) -> PreparedTurn | None:
        if len(self._replying) >= MOST_TALKS:
            _count("busy")
            return None
        services = self._services
        try:
            async with asyncio.timeout(BEFORE_SECONDS):
                flow = await flow_of(services, bot.tenant)
                if await services.store.rows(chat.recorded_event(bot.tenant, visitor_id, turn.event_id)):
                    _count("repeated")
                    return None
                before = await self._recorded(bot.tenant, visitor_id)
            seconds = self._seconds_since(before.latest_at, turn)
            done = turn_events(turn, flow, before.conversation, before.answers, seconds)
        except (TimeoutError, RequestProblem):
            _count("busy")
            return None
        except Exception:  # the update is recorded, whatever is wrong with the talk
            log.exception("a turn of a talk cannot be read", bot=bot.name)
            _count("failed")
            return None
        return PreparedTurn(bot, turn, flow, before, done)

    def _seconds_since(self, asked_at: datetime | None, turn: FlowTurn) -> float | None:
        """How long the answer took: the chat has asked right after the event before."""
        if asked_at is None:
            return None
        at = turn.sent_at or self._services.ports.now().timestamp()
        seconds = max(0.0, at - asked_at.timestamp())
        return seconds if seconds <= LONGEST_SECONDS else None

    async def _recorded(self, tenant: str, visitor_id: str) -> RecordedChat:
        rows = await self._services.store.rows(chat.chat_events(tenant, visitor_id))
        return RecordedChat(
            Conversation(tuple(ChatEvent(row["event_id"], row["type"], row["about"]) for row in rows)),
            {row["about"]: row["text"] or "" for row in rows if row["type"] == tag_of(QuestionAnswered)},
            rows[-1]["occurred_at"] if rows else None,
        )

    async def _reply(
        self, prepared: PreparedTurn, recorded: list[Event], visitor_id: str, lock: asyncio.Lock
    ) -> None:
        bot, turn = prepared.bot, prepared.turn
        try:
            after = await self._kept(prepared, recorded, visitor_id)
            if after is None:
                return
            language = language_of(prepared.flow, turn.language)
            reply = reply_of(
                turn, prepared.flow, prepared.before.conversation, after, prepared.done, language
            )
            if turn.callback_query_id is not None:
                press = {"callback_query_id": turn.callback_query_id}
                if not await self._sent(bot, "answerCallbackQuery", press):
                    return
            if reply is not None:
                message = message_of(reply, prepared.flow, turn.user_id, language)
                if await self._sent(bot, "sendMessage", message):
                    _count("sent")
        except RequestProblem:
            _count("late")
        except Exception:  # a reply that fails must not take anything with it
            log.exception("reply failed", bot=bot.name)
            _count("failed")
        finally:
            lock.release()

    async def _kept(
        self, prepared: PreparedTurn, recorded: list[Event], visitor_id: str
    ) -> Conversation | None:
        """What is recorded now, if the log has kept this delivery of the update."""
        tenant = prepared.bot.tenant
        await self._services.applied([event_key(each) for each in recorded], APPLY_SECONDS)
        latest = recorded[-1].event_id
        for _ in range(LOOKS):
            kept = await self._services.store.rows(
                chat.recorded_event(tenant, visitor_id, prepared.turn.event_id)
            )
            if kept and await self._services.store.rows(chat.recorded_event(tenant, visitor_id, latest)):
                break
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            _count("late")
            return None
        mine = recorded[0].recorded_at
        if mine is None or millis(kept[0]["recorded_at"]) != millis(mine):
            _count("repeated")
            return None
        after = (await self._recorded(tenant, visitor_id)).conversation
        complete = next_question(prepared.flow, after.answered()) is None
        if complete and not after.has(tag_of(QuestionsCompleted)):
            envelope = {"visitor_id": visitor_id, "context": _context(recorded[0])}
            await record(tenant, [{**chats.completed(), **envelope}], self._services.ports)
        return after

    async def _sent(self, bot: TelegramBot, method: str, parameters: Mapping[str, Any]) -> bool:
        """Waits and tries again if Telegram says for how long (429), within bounds. Everything else is final."""
        api, loop = self._services.ports.telegram_api, asyncio.get_running_loop()
        for _ in range(MOST_TRIES):
            try:
                await loop.run_in_executor(self._calls, telegram_client.call, api, bot, method, parameters)
            except TelegramRefused as refused:
                pause = refused.retry_after_s
                if refused.code == 429 and pause is not None and pause <= LONGEST_RETRY_SECONDS:
                    await asyncio.sleep(pause)
                    continue
                if method == "answerCallbackQuery" and refused.code == 400:
                    _count("old")  # the press has waited too long to be answered
                    return False
                blocked = refused.code == 403
                _count("blocked" if blocked else "limited" if refused.code == 429 else "refused")
                if not blocked:  # the person has blocked the bot
                    log.warning(
                        "Telegram refuses a reply", bot=bot.name, method=method, reason=refused.description
                    )
                return False
            except TelegramUnavailable as cause:
                # It may have arrived: a second one would be shown twice.
                _count("unavailable")
                log.warning("a reply was not sent", bot=bot.name, method=method, reason=str(cause))
                return False
            return True
        _count("limited")
        log.warning("Telegram takes no more replies now", bot=bot.name, method=method)
        return False


async def _acquired(lock: asyncio.Lock) -> bool:
    try:
        async with asyncio.timeout(BEFORE_SECONDS):
            return await lock.acquire()
    except TimeoutError:
        return False


def _count(result: str) -> None:
    metrics.TELEGRAM_REPLIES.labels(result).inc()


def _context(event: Event) -> dict[str, Any]:
    context = event.context
    return {} if context is None else {"source_type": context.source_type, "source_id": context.source_id}
