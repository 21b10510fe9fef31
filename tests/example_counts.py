"""How many examples a property draws that is worth fewer or more of them than the profile says."""

from hypothesis import settings

ORDINARY = 100


def scaled(count: int) -> int:
    """`count` in an ordinary run; a quick or long profile (tests/conftest.py) draws so many times fewer or more."""
    return max(1, count * settings().max_examples // ORDINARY)
