"""Many regular expressions that are searched at once, in time linear in the text.

The lists are those of others (device_detector, crawler-user-agents, crawlerdetect) and are written for engines that
backtrack. RE2 searches them instead, and only those of whose words the text has some. What RE2 cannot express, it
searches without its lookarounds; `regex` decides only where that matches.
"""

from collections.abc import Iterable, Iterator

import re2
import regex

DFA_BYTES = 1 << 19
"""The most that one expression caches. Beyond it RE2 searches more slowly, but still linearly."""

_LOOKAROUND = regex.compile(
    r"\(\?<?[=!](?:[^()\[\]\\]|\\.|\[(?:[^\]\\]|\\.)*\]|(\((?:[^()\[\]\\]|\\.|\[(?:[^\]\\]|\\.)*\]|(?1))*\)))*\)"
)


def one_of(pattern: str) -> re2._Regexp:
    """One expression, whatever the case of the letters."""
    return re2.compile(pattern, _options(ignore_case=True))


def _options(*, ignore_case: bool) -> re2.Options:
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    options.max_mem = DFA_BYTES
    return options


class PatternList:
    """Expressions by their position in the list. Raises re2.error for one that is none."""

    __slots__ = ("_filter", "_with_lookarounds")

    def __init__(self, patterns: Iterable[str], *, ignore_case: bool = True) -> None:
        options = _options(ignore_case=ignore_case)
        options.encoding = (
            re2.Options.Encoding.LATIN1
        )  # bytes: the expressions are ASCII, and it is twice as fast
        self._filter = re2.Filter()
        self._with_lookarounds: dict[int, regex.Pattern[str]] = {}
        for pattern in patterns:
            plain = _LOOKAROUND.sub("", pattern)
            index = self._filter.Add(plain, options)
            if plain != pattern:
                flags = regex.IGNORECASE if ignore_case else 0
                self._with_lookarounds[index] = regex.compile(pattern, flags)
        self._filter.Compile()

    def matching(self, text: str) -> Iterator[int]:
        """The positions of the expressions that match somewhere in the text, in their order."""
        for index in sorted(self._filter.Match(text) or ()):
            exact = self._with_lookarounds.get(index)
            if exact is None or exact.search(text):
                yield index

    def first(self, text: str) -> int | None:
        return next(self.matching(text), None)

    def matched(self, index: int, text: str) -> str:
        """What the expression at this position matches in the text."""
        exact = self._with_lookarounds.get(index) or self._filter.re(index)
        match = exact.search(text)
        return str(match[0]) if match else ""
