"""A client of Telegram's Bot API: calls a method, downloads a file.

The token of a bot is part of every address, so no error of this module shows an address, and redirects are not followed.
Calls block: not for an event loop's own thread.
"""

import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import quote
from urllib.request import HTTPErrorProcessor, Request, build_opener

from msgspec import DecodeError, Struct, json

from gateway.door.telegram_bots import TelegramBot

SECONDS: Final = 10.0
LARGEST_ANSWER: Final = 32_000_000
"""Bytes; a hundred updates of 256 KB and some."""
LARGEST_FILE: Final = 20_000_000
"""Telegram gives bots no larger ones."""
DOWNLOAD_SECONDS: Final = 60.0
_PIECE: Final = 65_536


class TelegramRefused(Exception):
    """Telegram's own refusal: its code, what it says, and after how many seconds to try again, if it says so."""

    def __init__(self, code: int, description: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code} {description}")
        self.code = code
        self.description = description
        self.retry_after_s = retry_after_s


class TelegramUnavailable(Exception):
    """Telegram does not answer, or not as its documentation says."""


class _Parameters(Struct):
    retry_after: int | None = None


class _Answer(Struct):
    """What every method answers."""

    ok: bool
    result: Any = None
    description: str = ""
    error_code: int = 0
    parameters: _Parameters | None = None


class _AnyStatus(HTTPErrorProcessor):
    """Every answer is returned as it is: Telegram explains itself in the body, and a redirect leads nowhere."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:  # noqa: ARG002
        return response

    https_response = http_response


_open = build_opener(_AnyStatus).open
_read_answer = json.Decoder(_Answer).decode


def call(
    api: str, bot: TelegramBot, method: str, parameters: Mapping[str, Any], seconds: float = SECONDS
) -> Any:
    """The result of a method. Raises TelegramRefused and TelegramUnavailable."""
    request = Request(  # noqa: S310 - the setting allows http and https only
        f"{api}/bot{bot.token}/{method}", json.encode(parameters), {"Content-Type": "application/json"}
    )
    try:
        _, body = _answered(request, LARGEST_ANSWER, seconds, seconds)
        answer = _read_answer(body)
    except DecodeError:
        raise TelegramUnavailable("the answer is not Telegram's") from None
    if answer.ok:
        return answer.result
    later = answer.parameters.retry_after if answer.parameters else None
    raise TelegramRefused(answer.error_code, answer.description[:200].replace(bot.token, "***"), later)


def download(api: str, bot: TelegramBot, file_id: str) -> tuple[str, bytes]:
    """The name and the content of a file. Raises TelegramRefused and TelegramUnavailable."""
    file = call(api, bot, "getFile", {"file_id": file_id})
    path = file.get("file_path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        raise TelegramUnavailable("the answer names no file")
    request = Request(f"{api}/file/bot{bot.token}/{quote(path)}")  # noqa: S310 - as above
    status, content = _answered(request, LARGEST_FILE, SECONDS, DOWNLOAD_SECONDS)
    if status != 200:
        raise TelegramUnavailable(f"the file comes with status {status}")
    return path.rpartition("/")[2], content


def _answered(request: Request, largest: int, patience: float, seconds: float) -> tuple[int, bytes]:
    """Status and body. `patience`: seconds without a byte; `seconds`: for all of it. Raises TelegramUnavailable."""
    until = time.monotonic() + seconds
    try:
        with _open(request, timeout=patience) as answer:
            parts: list[bytes] = []
            size = 0
            while part := answer.read1(_PIECE):
                parts.append(part)
                size += len(part)
                if size > largest or time.monotonic() > until:
                    raise TelegramUnavailable("the answer is too large or too slow")
            return answer.status, b"".join(parts)
    except (OSError, HTTPException) as cause:
        raise TelegramUnavailable(type(cause).__name__) from None
