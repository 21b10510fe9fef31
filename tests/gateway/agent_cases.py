"""User agents of people and bots, with what they are: the test cases that device_detector's package carries."""

from functools import lru_cache
from importlib import resources
from typing import Any

import yaml_rs

Case = dict[str, Any]


@lru_cache
def cases() -> list[Case]:
    folder = resources.files("device_detector") / "tests/fixtures/upstream"
    files = sorted(
        (each for each in folder.iterdir() if each.name.endswith(".yml")), key=lambda each: each.name
    )
    every = [case for file in files for case in yaml_rs.loads(file.read_text(encoding="utf-8"))]
    return [case for case in every if case.get("user_agent")]


def bots() -> list[Case]:
    return [case for case in cases() if "bot" in case]


def people() -> list[Case]:
    return [case for case in cases() if "bot" not in case]
