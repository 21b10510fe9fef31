"""The signals that texts of models count, and the rules that read them: pure."""

import tomllib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from scoring.models.model import ModelError, compile_model


def signals_of(texts: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Stored name -> name of the signals of these models; (text, folding). A text that today's version refuses counts none."""
    signals: dict[str, str] = {}
    for text, folding in texts:
        try:
            model = compile_model(text, folding)
        except ModelError:
            continue
        signals |= {signal.stored: signal.name for signal in model.signals}
    return signals


def lines_that_read(text: str, signals: Collection[str]) -> list[str]:
    """The names of the rules in the text of a model that read one of these signals."""
    groups = tomllib.loads(text).get("groups", {})
    return [
        str(rule["name"])
        for group in groups.values()
        for rule in group.get("rules", ())
        if "name" in rule and not set(signals).isdisjoint(_texts_in(rule))
    ]


def _texts_in(value: Any) -> Iterator[str]:
    """Every text of a rule, and its sequence as the signal of it is named."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        if isinstance(value.get("sequence"), list):
            yield ", then ".join(map(str, value["sequence"]))
        for each in value.values():
            yield from _texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts_in(each)
