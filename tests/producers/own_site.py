"""The web site of somebody who uses Leadstream: pages on an origin of their own, with the script in them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>{title}</title>
{head}
<script async src="{script}" {attributes}></script></head><body>
<h1>{title}</h1>
<p><button id="more">More</button> <button id="video">Watch   the
 video</button> <button id="compare">Compare</button> <button id="demo" type="button"><b>GET A</b> DEMO</button>
<button id="bird">Be an Early Bird</button> <input type="submit" id="chat" value="Chat with us"></p>
<p><a id="features" href="/features">Features</a> <a id="brochure" href="/files/Brochure.pdf">Our brochure</a>
<a id="elsewhere" href="http://localhost:1/calendar" onclick="event.preventDefault()">Get a Demo</a>
<span id="plain">Plain text</span> <span data-ls-ignore><button id="private">Jane's account</button></span></p>
<form id="contact" name="Contact us" onsubmit="event.preventDefault()">
<input name="email" type="email" value="jane@acme.example"><input name="your-name" data-ls-field="name" value="Jane">
<input name="company" value="Acme"><input name="age" value="41"><input name="password" type="password" value="hunter2">
<input name="card" value="4111 1111 1111 1111"><input name="note" value="4111111111111111">
<input type="hidden" name="csrf" value="s3cret"><input type="checkbox" name="news" value="yes" checked>
<button id="send">Send</button></form>
{body}
</body></html>"""


class Site:
    def __init__(self, script: str, key: str) -> None:
        self.script = script
        self.key = key
        self.attributes = ""
        self.head = ""
        self.body = ""
        self.headers: dict[str, str] = {}
        self.origin = ""

    def page(self, path: str) -> str:
        title = urlsplit(path).path.strip("/").title() or "Home"
        return PAGE.format(
            title=title,
            head=self.head,
            body=self.body,
            script=self.script,
            attributes=f'data-key="{self.key}" {self.attributes}',
        )


@contextmanager
def own_site(script: str, key: str) -> Iterator[Site]:
    site = Site(script, key)

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = self.path.endswith(".pdf")
            content = b"%PDF-1.4" if file else site.page(self.path).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/pdf" if file else "text/html; charset=utf-8")
            if file:
                self.send_header("Content-Disposition", "attachment")
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    site.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
