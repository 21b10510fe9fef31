"""Many regular expressions that are searched at once, in time linear in the text.

The lists are those of others (device_detector, crawler-user-agents, crawlerdetect) and are written for engines that
backtrack. RE2 searches them instead: those that need certain words only where the text has these words, and the others
together, in one pass. What RE2 cannot express, it searches without its lookarounds; only where that matches, `regex`
decides.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import re2
import regex

MOST_PATTERN_BYTES: Final = 1 << 19
"""What one expression caches at most. Beyond it RE2 searches more slowly, but still linearly."""
MOST_LIST_BYTES: Final = 32 << 20

_LOOKAROUND = regex.compile(
    r"\(\?<?[=!](?:[^()\[\]\\]|\\.|\[(?:[^\]\\]|\\.)*\]|(\((?:[^()\[\]\\]|\\.|\[(?:[^\]\\]|\\.)*\]|(?1))*\)))*\)"
)


def compile_ignoring_case(pattern: str) -> re2._Regexp:
    """One expression, whatever the case of the letters."""
    return re2.compile(pattern, _re2_options(ignore_case=True))


def _re2_options(*, ignore_case: bool, most_bytes: int = MOST_PATTERN_BYTES) -> re2.Options:
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    options.max_mem = most_bytes
    return options


class PatternList:
    """Expressions by their position in the list. Raises re2.error for one that is none."""

    __slots__ = (
        "_by_words",
        "_options",
        "_others",
        "_patterns",
        "_with_lookarounds",
        "_with_words",
        "_wordless",
    )

    def __init__(self, patterns: Iterable[str], *, ignore_case: bool = True) -> None:
        self._options = _re2_options(ignore_case=ignore_case)
        self._with_lookarounds: dict[int, tuple[re2._Regexp, regex.Pattern[str]]] = {}
        self._patterns: list[str] = []
        for index, pattern in enumerate(patterns):
            plain = _LOOKAROUND.sub("", pattern)
            self._patterns.append(plain)
            if plain != pattern:
                flags = regex.IGNORECASE if ignore_case else 0
                plainly = re2.compile(plain, self._options)
                self._with_lookarounds[index] = (plainly, regex.compile(pattern, flags))
        wordless = set(_re2_filter(self._patterns, ignore_case=ignore_case).Match("", potential=True) or ())
        self._wordless = sorted(wordless)
        self._with_words = [index for index in range(len(self._patterns)) if index not in wordless]
        self._by_words = _re2_filter(
            map(self._patterns.__getitem__, self._with_words), ignore_case=ignore_case
        )
        self._others = _re2_set(map(self._patterns.__getitem__, self._wordless), ignore_case=ignore_case)

    def matching(self, text: str) -> Iterator[int]:
        """The positions of the expressions that match somewhere in the text, in their order."""
        matches = [self._with_words[entry] for entry in self._by_words.Match(text) or ()]
        matches += [self._wordless[entry] for entry in self._others.Match(text) or ()]
        for index in sorted(matches):
            if index not in self._with_lookarounds or self._exactly(index, text):
                yield index

    def first(self, text: str) -> int | None:
        return next(self.matching(text), None)

    def span(self, index: int, text: str) -> tuple[int, int]:
        """Where the expression at this position first matches in the text, which it does."""
        if index in self._with_lookarounds:
            match = self._exactly(index, text)
        else:
            match = re2.compile(self._patterns[index], self._options).search(text)
        return match.span() if match else (0, 0)

    def _exactly(self, index: int, text: str) -> regex.Match[str] | None:
        plainly, exact = self._with_lookarounds[index]
        starts = (match.start() for match in plainly.finditer(text))
        return next((match for start in starts if (match := exact.match(text, start))), None)


def _re2_filter(patterns: Iterable[str], *, ignore_case: bool) -> re2.Filter:
    options = _bytewise(_re2_options(ignore_case=ignore_case))
    words = re2.Filter()
    for pattern in patterns:
        words.Add(pattern, options)
    words.Compile()
    return words


def _re2_set(patterns: Iterable[str], *, ignore_case: bool) -> re2.Set:
    options = _bytewise(_re2_options(ignore_case=ignore_case, most_bytes=MOST_LIST_BYTES))
    together = re2.Set.SearchSet(options)
    for pattern in patterns:
        together.Add(pattern)
    together.Compile()
    return together


def _bytewise(options: re2.Options) -> re2.Options:
    """Bytes instead of characters: the expressions are ASCII but for one or two, and it is twice as fast."""
    options.encoding = re2.Options.Encoding.LATIN1
    return options
