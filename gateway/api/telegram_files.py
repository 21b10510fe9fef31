"""GET /v1/telegram/{bot}/files/{file_id}: the recordings of voice messages, without the bot's token.

Telegram serves a file under an address that contains the token. This endpoint fetches the file and passes on its
content, to callers that may read the leads of the bot's tenant. Nothing is stored.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway import telegram_client
from gateway.answers import RequestProblem
from gateway.api.services import authorized_caller, services_of
from gateway.door.telegram import bot_of, unknown_bot_problem
from gateway.telegram_client import TelegramRefused, TelegramUnavailable

AUDIO = {"oga": "audio/ogg", "ogg": "audio/ogg", "opus": "audio/ogg", "mp3": "audio/mpeg", "m4a": "audio/mp4"}
"""Media types by the ending of the name. A file of any other kind is only downloaded: a stranger has sent it."""
_downloads = ThreadPoolExecutor(4, thread_name_prefix="download from Telegram")

router = APIRouter(tags=["telegram"])


@router.get(
    "/v1/telegram/{bot}/files/{file_id}",
    summary="The recording of a voice message",
    description="Fetched from Telegram when it is asked for. Needs the scope read of the bot's tenant.",
    responses={
        200: {
            "description": "The file.",
            "content": {"audio/ogg": {"schema": {"type": "string", "format": "binary"}}},
        },
        404: {"description": "The tenant has no bot of this name, or Telegram no such file."},
        502: {"description": "Telegram refuses, or does not answer."},
    },
    response_class=Response,
)
async def voice_file(
    request: Request,
    bot: Annotated[str, Path(description="The name of the bot.")],
    file_id: Annotated[
        str,
        Path(
            pattern=r"^[A-Za-z0-9_-]{1,256}$",
            description="`file_id` of the event `message_received`; a lead's `voice_url` contains it.",
        ),
    ],
) -> Response:
    ports = services_of(request).ports
    _, caller = authorized_caller(request)
    sender = bot_of(ports, bot)
    if caller.tenant not in {None, sender.tenant}:
        raise unknown_bot_problem()
    download = asyncio.get_running_loop().run_in_executor(
        _downloads, telegram_client.download, ports.telegram_api, sender, file_id
    )
    try:
        name, content = await download
    except TelegramRefused as refused:
        if refused.code == 400:
            raise RequestProblem(
                404, f"Telegram gives no such file: {refused.description}", field="file_id"
            ) from None
        raise RequestProblem(
            502, f"Telegram refuses: {refused.description}", retry_after_s=refused.retry_after_s
        ) from None
    except TelegramUnavailable as unavailable:
        raise RequestProblem(502, f"Telegram does not answer: {unavailable}", retry_after_s=5) from None
    media_type = AUDIO.get(name.rpartition(".")[2].lower())
    kind = "attachment" if media_type is None else "inline"
    return Response(
        content,
        media_type=media_type or "application/octet-stream",
        headers={"Content-Disposition": kind},
    )
