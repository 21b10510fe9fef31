"""Which kind of device a user agent names: on the cases of an installed package, whose types are stated there."""

from collections import Counter

import pytest
from agent_cases import people

from gateway.door.devices import device_of

KINDS = {
    "desktop": "desktop",
    "smartphone": "mobile",
    "phablet": "mobile",
    "feature phone": "mobile",
    "tablet": "tablet",
    "tv": "tv",
    "console": "other",
    "wearable": "other",
    "car browser": "other",
    "smart speaker": "other",
}
RIGHT = {"desktop": 0.95, "mobile": 0.99, "tablet": 0.99, "tv": 0.99, "other": 0.95}
"""The least share of each kind that has to be right."""


@pytest.mark.slow
def test_devices_are_of_the_kind_that_their_makers_state():
    right, all_cases = Counter(), Counter()
    for number, case in enumerate(people()):
        own_type = (case.get("device") or {}).get("type")
        if own_type not in KINDS or (KINDS[own_type] in {"mobile", "tablet"} and number % 10):
            continue
        kind = KINDS[own_type]
        all_cases[kind] += 1
        right[kind] += device_of(case["user_agent"]).type == kind
    assert all_cases["tv"] > 3000
    shares = {kind: right[kind] / all_cases[kind] for kind in RIGHT}
    assert {kind: share for kind, share in shares.items() if share < RIGHT[kind]} == {}


@pytest.mark.parametrize(
    ("user_agent", "kind"),
    [
        (
            "Mozilla/5.0 (Linux; U; Vidaa U7; Hisense) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98 Safari/537.36",
            "tv",
        ),
        (
            "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) ArkWeb/4.1 Mobile",
            "mobile",
        ),
        ("Opera/9.80 (J2ME/MIDP; Opera Mini/9.80 (S60; SymbOS; U; en) Presto/2.5.25 Version/10.54", "mobile"),
        (
            "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0 Safari/537.36",
            "tv",
        ),
        (
            "Mozilla/5.0 (Linux; Android 9; AFTMM) AppleWebKit/537.36 (KHTML, like Gecko) Silk/90.1 Safari/537.36",
            "tv",
        ),
        (
            "Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/90.1 Safari/537.36",
            "tablet",
        ),
        (
            "Mozilla/5.0 (Linux; U; Android 12; Xiaomi 12S) Version/4.0 Mobile Safari/537.36 XiaoMi/MiuiBrowser/13.16.1",
            "mobile",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36",
            "tablet",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/148.0.0.0 Mobile Safari/537.36",
            "mobile",
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 13_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
            "tablet",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 Edge/44.18363.8131",
            "other",
        ),
        ("Mozilla/5.0 (PlayStation 5/SmartTV) AppleWebKit/605.1.15 (KHTML, like Gecko)", "other"),
        (
            "Mozilla/5.0 (X11; GNU/Linux) AppleWebKit/537.36 (KHTML, like Gecko) Chromium/79.0 Tesla/2020.16.2.1",
            "other",
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0",
            "desktop",
        ),
    ],
)
def test_the_kind_of_a_device(user_agent, kind):
    assert device_of(user_agent).type == kind
