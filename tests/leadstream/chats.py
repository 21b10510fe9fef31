"""Chats that number their messages each for itself, as Telegram does, and callers that send at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.leadstream.command_line import Server

CALLERS = 8
SCORES = {"message_received": 10, "demo_requested": 35}
"""What the model `rules` gives a lead for its only event."""


def message(chat: str, number: int) -> dict[str, Any]:
    kind = "message_received" if number % 2 else "demo_requested"
    return {"type": kind, "visitor_id": chat, "event_id": "7", "source": "telegram", "text": "hello"}


def answers_of_concurrent_callers(server: Server, prefix: str) -> dict[str, tuple[Any, ...]]:
    """Chat -> status, outcome, lead and its score by the model `rules`, of the message 7 of each chat."""
    chats = [f"{prefix}-{number}" for number in range(CALLERS)]

    def send(number: int) -> tuple[Any, ...]:
        answer = server.client.post("/v1/events?wait=10", json=message(chats[number], number))
        [event] = answer.json()["events"]
        return answer.status_code, event["outcome"], event["lead_id"], event["scores"]["rules"]

    with ThreadPoolExecutor(CALLERS) as callers:
        return dict(zip(chats, callers.map(send, range(CALLERS)), strict=True))


def right_answers(prefix: str) -> dict[str, tuple[Any, ...]]:
    return {
        f"{prefix}-{number}": (
            200,
            "applied",
            f"anon:{prefix}-{number}",
            SCORES[message("", number)["type"]],
        )
        for number in range(CALLERS)
    }
