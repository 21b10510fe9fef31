"""The refusal of a name that an address does not take, with the name that is probably meant."""

from collections.abc import Collection
from difflib import get_close_matches

LONGEST_NAME_SHOWN = 64


def unknown_name(kind: str, name: str, names: Collection[str]) -> str:
    """`kind` is what it names: parameter or field."""
    shown = name if len(name) <= LONGEST_NAME_SHOWN else f"{name[:LONGEST_NAME_SHOWN]}..."
    meant = meant_name(name, names)
    hint = f"; did you mean `{meant}`?" if meant else "."
    return f"unknown {kind} `{shown}`{hint} This endpoint takes: {', '.join(sorted(names)) or f'no {kind}s'}"


def meant_name(name: str, names: Collection[str]) -> str | None:
    """The one that is most like it, or that contains it. A long name takes no longer than a short one."""
    by_form, form = {_plain(each): each for each in sorted(names)}, _plain(name[:LONGEST_NAME_SHOWN])
    similar = get_close_matches(form, by_form, n=1) or [
        each for each in by_form if min(len(form), len(each)) > 2 and (form in each or each in form)
    ]
    return by_form[similar[0]] if similar else None


def _plain(name: str) -> str:
    """Without what people spell differently: `min-score`, `minScore`, `MIN_SCORE`."""
    return name.lower().replace("_", "").replace("-", "").replace(".", "")
