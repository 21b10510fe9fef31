"""Which kind of device a user agent string names: desktop, mobile, tablet, tv or other.

The kinds are those of device_detector's lists of devices; the order in which they are tried is Matomo's. Phones,
music players and phablets are mobile. Consoles, wearables, cars, cameras, loudspeakers, displays and terminals are
other. Browsers of plain computers and Apple's phones are recognised without the lists, which takes microseconds; the
lists take some tenths of a millisecond. Verdicts are cached per string in bounded memory.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple, cast

import ua_parser
import yaml_rs

from gateway.door.pattern_list import PatternList, compile_ignoring_case
from schemas.envelope import Device

CACHED_USER_AGENTS: Final = 20_000
LONGEST_USER_AGENT: Final = 1024
DESKTOP, MOBILE, TABLET, TV, OTHER = "desktop", "mobile", "tablet", "tv", "other"
KIND_OF_LISTED_TYPE: Final = {
    "desktop": DESKTOP,
    "smartphone": MOBILE,
    "feature phone": MOBILE,
    "phablet": MOBILE,
    "portable media player": MOBILE,
    "tablet": TABLET,
    "tv": TV,
}
"""Of device_detector's types of device; every other one is `other`."""
WORD_BOUND_FORM: Final = r"(?:^|[^A-Z0-9_-]|[^A-Z0-9-]_|sprd-|MZ-)(?:{})"
"""How device_detector applies its expressions: not in the middle of a word."""
SYSTEM_KINDS: Final = {
    **dict.fromkeys(
        ("Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD"), DESKTOP
    ),
    **dict.fromkeys(("iOS", "Windows Phone", "HarmonyOS", "KaiOS", "BlackBerry OS", "Tizen"), MOBILE),
}
TV_BROWSERS: Final = r"Kylo|Espial|LUJO TV|LogicUI|Opera Devices|\bOMI/|Crow Browser|Vewd|TiviMate|Quick ?Search ?TV|QJY|TV Bro|Redline|Sraf"
"""Browsers that only televisions have."""

_TV = compile_ignoring_case(
    rf"HbbTV|SmartTvA|Smart[ -]?TV|[ _]Shell[ _]\w{{6}}|tclwebkit|Andr0id|(?:Android|Google)(?: UHD)? TV|\(lite\) TV"
    rf"|BRAVIA|Firebolt|\bTV\b|Apple ?TV|Tizen.+ TV |CE-HTML|Roku|Coolita|VIDAA|tvOS|web0s|{TV_BROWSERS}"
)
_COMPUTER = compile_ignoring_case(
    r"\((?:Windows NT|Windows;|Macintosh|X11; (?:U; )?(?:Ubuntu; )?Linux (?:x86_64|i686)|X11; CrOS)"
)
_NO_COMPUTER = compile_ignoring_case(
    r" Mozilla/|Andr[o0]id|Tablet|Mobile|iPhone|iPad|Windows Phone|ricoh|Oculus|PicoBrowser|Lenovo|Tesla/|XBOX|FBMD/"
    r"|ARM;|Touch|Kindle|HTC|PlayStation|Nintendo|Puffin"
)
_IPHONE = compile_ignoring_case(r"^Mozilla/5\.0 \((?:iPhone|iPod)")
_IPAD = compile_ignoring_case(r"^Mozilla/5\.0 \(iPad")
_AMAZON_TABLET = compile_ignoring_case(r"\bKF[A-Z]{2,5}\b")
_NO_MODEL = compile_ignoring_case(r"^Mozilla/5\.0 \(Linux; Android \d+; K\)")
_TABLET = compile_ignoring_case(r"\btablet(?:[^ ]| [^P]|$)|Pad/APad|Windows NT 6\.[23];.*Touch")
_OLD_COMPUTER = compile_ignoring_case(
    r"\bwin(?:32|64|7|10|dows)|\bMac ?OS|X11|BeOS|Haiku|Amiga|OS/2|BSD|Solaris|SunOS|CYGWIN|x86_64|amd64|i686|\bDesktop\b"
)
_PHONE = compile_ignoring_case(r"\bMIDP\b|\(Phone;")
"""Feature phones, and HarmonyOS."""
_PUFFIN = compile_ignoring_case(r"Puffin/[\d.]+[AFILMW][DPT]")


class DeviceLists(NamedTuple):
    others: PatternList
    """Consoles, cars and cameras."""
    brands: PatternList
    brand_kinds: tuple[str | None, ...]
    """None: its models differ."""
    models: PatternList
    """Only models of another type than their brand."""
    model_kinds: tuple[tuple[int, str | None], ...]
    """Of each such model: its brand's position and its kind."""


def load_devices() -> None:
    """Compiles the lists, which the first string would otherwise wait for."""
    _device_lists()


@lru_cache(maxsize=CACHED_USER_AGENTS)
def device_of(user_agent: str) -> Device:
    agent = user_agent[:LONGEST_USER_AGENT]
    parsed = ua_parser.parse(agent)
    system = parsed.os.family if parsed.os else None
    return Device(
        type=_device_kind(agent, system),
        os=system,
        browser=parsed.user_agent.family if parsed.user_agent else None,
    )


def _device_kind(agent: str, system: str | None) -> str:
    if _TV.search(agent):
        return TV if "PlayStation" not in agent else OTHER
    if _COMPUTER.search(agent) and not _NO_COMPUTER.search(agent):
        return DESKTOP
    if _IPHONE.search(agent):
        return MOBILE
    if _IPAD.search(agent) or _AMAZON_TABLET.search(agent):
        return TABLET
    listed = None if _NO_MODEL.search(agent) else _kind_by_lists(agent)
    return listed or _kind_by_hints(agent, system)


def _kind_by_lists(agent: str) -> str | None:
    """The kind of the brand and model that the string names, if it names one of the lists."""
    lists = _device_lists()
    if lists.others.first(agent) is not None:
        return OTHER
    brand = lists.brands.first(agent)
    if brand is None:
        return None
    models = (lists.model_kinds[index] for index in lists.models.matching(agent))
    return next((kind for owner, kind in models if owner == brand), lists.brand_kinds[brand])


def _kind_by_hints(agent: str, system: str | None) -> str:
    if puffin := _PUFFIN.search(agent):
        return {"D": DESKTOP, "P": MOBILE, "T": TABLET}[str(puffin[0])[-1].upper()]
    if " VR " in agent:
        return OTHER
    if _TABLET.search(agent):
        return TABLET
    if system == "Android":
        return TABLET if "Chrome/" in agent and "Mobile" not in agent else MOBILE
    if _PHONE.search(agent):
        return MOBILE
    return SYSTEM_KINDS.get(system or "") or (DESKTOP if _OLD_COMPUTER.search(agent) else OTHER)


@lru_cache(maxsize=1)
def _device_lists() -> DeviceLists:
    others = [each for name in ("consoles", "car_browsers", "cameras") for each in _read_list(name).values()]
    brands = list(_read_list("mobiles").values())
    kinds = tuple(_kind_of_type(each.get("device")) for each in brands)
    models, model_kinds = [], []
    for position, brand in enumerate(brands):
        for model in brand.get("models", ()):
            own_type = model.get("device", brand.get("device"))
            if own_type != brand.get("device"):
                models.append(model["regex"])
                model_kinds.append((position, _kind_of_type(own_type)))
    return DeviceLists(
        PatternList(WORD_BOUND_FORM.format(each["regex"]) for each in others),
        PatternList(WORD_BOUND_FORM.format(each["regex"]) for each in brands),
        kinds,
        PatternList(map(WORD_BOUND_FORM.format, models)),
        tuple(model_kinds),
    )


def _kind_of_type(name: str | None) -> str | None:
    return None if name is None else KIND_OF_LISTED_TYPE.get(name, OTHER)


def _read_list(name: str) -> Mapping[str, Mapping[str, Any]]:
    file = resources.files("device_detector") / f"regexes/upstream/device/{name}.yml"
    return cast("Mapping[str, Mapping[str, Any]]", yaml_rs.loads(file.read_text(encoding="utf-8")))
