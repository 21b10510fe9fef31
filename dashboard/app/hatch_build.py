"""Hatch refuses to build a wheel without the pages. An editable install does without: `make setup` builds them after it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesAreBuilt(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        if version == "standard" and not (Path(self.root) / "dashboard/static/dist/index.html").exists():
            raise SystemExit("The pages are not built: run `python dashboard/app/build.py` first.")
