"""How many examples a property draws that is worth fewer or more of them than the profile says."""

from hypothesis import settings

HUNDRED = 100


def scaled(count: int) -> int:
    """`count` where the profile (tests/conftest.py) draws a hundred; so many times fewer or more where it draws fewer or more."""
    return max(1, count * settings().max_examples // HUNDRED)
