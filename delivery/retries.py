"""When a failed attempt is repeated, and when a channel rests. Pure: time and chance come in as arguments."""

from dataclasses import dataclass, field


def backoff_seconds(attempt: int, first: float, longest: float, chance: float) -> float:
    """The wait after the failed `attempt` (1, 2 ...): doubled each time up to `longest`, of which `chance` (0 to 1) takes off
    up to a half, so that what failed together does not come again together.
    """
    whole = min(longest, first * 2.0 ** min(attempt - 1, 60))
    return whole * (1 - chance / 2)


@dataclass
class CircuitBreaker:
    """Rests a channel after `failures` failed attempts in a row. After the rest one attempt may go; if it fails, the
    channel rests twice as long, up to LONGEST_RESTS times `rest_seconds`. A receiver that asks for a pause (Retry-After) gets it at once.
    """

    failures: int
    rest_seconds: float
    failed_in_a_row: int = 0
    open_until: float = field(default=0.0)
    rests: int = 0

    @property
    def is_on_trial(self) -> bool:
        """The next attempt decides; only one may be under way."""
        return self.failed_in_a_row >= self.failures

    def is_open(self, now: float) -> bool:
        return now < self.open_until

    def succeeded(self) -> None:
        self.failed_in_a_row = self.rests = 0

    def failed(self, now: float, retry_after: float | None) -> None:
        self.failed_in_a_row += 1
        rest = 0.0
        if self.failed_in_a_row >= self.failures:
            rest = self.rest_seconds * min(2**self.rests, LONGEST_RESTS)
            self.rests += 1
        self.open_until = max(self.open_until, now + max(rest, retry_after or 0.0))


LONGEST_RESTS = 4
