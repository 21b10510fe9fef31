"""The pictures of docs/pictures, taken again: `python -m tests.docs.take_pictures`, while `make demo` runs.

Chromium opens every page of the demo as a person would, and keeps what it shows as WebP, which needs no other program.
"""

import argparse
import base64
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.producers.chromium import Tab, chromium, until

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 1600, 900
QUALITY = 70
SECONDS_UNTIL_STILL = 5.0
"""Charts move while they appear."""


def addresses(lead: str) -> dict[str, str]:
    """The address of each picture's page."""
    return {
        "call-list": "/",
        "lead": f"/leads/{lead}",
        "analytics": "/lead-analytics",
        "models": "/models/rules",
        "workflows": "/workflows",
        "experiments": "/experiments",
        "inbox": "/inbox",
        "operations": "/operations",
        "chat-flows": "/flows",
        "demo": "/demo",  # before the inspector, which shows what came of it
        "inspector": "/inspector",
    }


def take(tab: Tab, name: str) -> int:
    """How many bytes it has."""
    picture: dict[str, Any] = tab.call("Page.captureScreenshot", format="webp", quality=QUALITY)
    content = base64.b64decode(picture["data"])
    (PICTURES / f"{name}.webp").write_bytes(content)
    return len(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="http://127.0.0.1:8000", help="of the demo (%(default)s)")
    parser.add_argument("names", nargs="*", help="only these pictures")
    options = parser.parse_args()
    first = httpx.get(f"{options.address}/api/leads", params={"limit": 1}).json()["leads"][0]["lead_id"]
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, chromium(Path(directory) / "profile") as browser:
        for name, path in addresses(first).items():
            if options.names and name not in options.names:
                continue
            tab = browser.person().tab()
            tab.call(
                "Emulation.setDeviceMetricsOverride",
                width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            tab.go(options.address + path)
            until(lambda tab=tab: len(tab.run("document.body.innerText")) > 100, f"{path} shows something")
            time.sleep(SECONDS_UNTIL_STILL)
            print(f"{name}: {take(tab, name):,} bytes")
            tab.close()


if __name__ == "__main__":
    main()
