"""A Bot API server on this machine that keeps to the contract of Telegram's documentation: addresses, `ok` and
`result`, confirmation of updates by a higher offset, a webhook that excludes getUpdates, the limits of sendMessage and
its buttons, errors with their codes.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
"""The token that Telegram's documentation shows."""
SECRET = "a-secret-of-our-own"
VOICE = b"OggS-sound"


class FakeTelegram:
    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.webhook: dict[str, Any] = {}
        self.files = {"AwADBAADbXXXXXXXXXXXGBdhD2l6_XX": "voice/file_7.oga", "page": "documents/page.html"}
        self.errors: list[dict[str, Any]] = []
        """Answers of the next calls."""
        self.address = ""
        self.sent: list[dict[str, Any]] = []
        """The messages that people have got."""
        self.blocked_by: set[int] = set()
        self.old_queries: set[str] = set()

    def answer(self, token: str, method: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append((method, parameters))
        if token != TOKEN:
            return _refused(401, "Unauthorized")
        if self.errors:
            error = self.errors.pop(0)
            return error["error_code"], error
        match method:
            case "getUpdates":
                return self._updates(parameters)
            case "setWebhook":
                self.webhook = parameters
                return 200, {"ok": True, "result": True, "description": "Webhook was set"}
            case "deleteWebhook":
                self.webhook = {}
                return 200, {"ok": True, "result": True, "description": "Webhook was deleted"}
            case "answerCallbackQuery":
                if parameters["callback_query_id"] in self.old_queries:
                    return _refused(
                        400,
                        "Bad Request: query is too old and response timeout expired or query ID is invalid",
                    )
                return 200, {"ok": True, "result": True}
            case "sendMessage":
                return self._send(parameters)
            case "getFile":
                return self._file(parameters["file_id"])
            case _:
                return _refused(404, "Not Found")

    def _updates(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.webhook:
            return _refused(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
            )
        offset = parameters.get("offset", 0)
        self.updates = [update for update in self.updates if update["update_id"] >= offset]
        return 200, {"ok": True, "result": self.updates[: parameters.get("limit", 100)]}

    def _send(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        chat_id, text = parameters["chat_id"], parameters["text"]
        if not text.strip():
            return _refused(400, "Bad Request: message text is empty")
        if len(text) > 4096:
            return _refused(400, "Bad Request: message is too long")
        markup = parameters.get("reply_markup", {})
        for button in (each for row in markup.get("inline_keyboard", ()) for each in row):
            if not button["text"] or not 1 <= len(button["callback_data"].encode()) <= 64:
                return _refused(400, "Bad Request: BUTTON_DATA_INVALID")
        if chat_id in self.blocked_by:
            return _refused(403, "Forbidden: bot was blocked by the user")
        self.sent.append(parameters)
        message = {"message_id": len(self.sent), "date": 1, "chat": {"id": chat_id, "type": "private"}}
        return 200, {"ok": True, "result": {**message, "text": text}}

    def _file(self, file_id: str) -> tuple[int, dict[str, Any]]:
        path = self.files.get(file_id)
        if path is None:
            return _refused(400, "Bad Request: invalid file_id")
        return 200, {"ok": True, "result": {"file_id": file_id, "file_size": len(VOICE), "file_path": path}}


def _refused(code: int, description: str) -> tuple[int, dict[str, Any]]:
    return code, {"ok": False, "error_code": code, "description": description}


@contextmanager
def fake_telegram() -> Iterator[FakeTelegram]:
    fake = FakeTelegram()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            called = re.fullmatch(r"/bot([^/]+)/(\w+)", self.path)
            assert called is not None
            status, answer = fake.answer(called[1], called[2], body)
            self._send(status, json.dumps(answer).encode())

        def do_GET(self) -> None:
            known = self.path.removeprefix(f"/file/bot{TOKEN}/") in fake.files.values()
            self._send(200, VOICE) if known else self._send(404, b'{"ok":false,"error_code":404}')

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
