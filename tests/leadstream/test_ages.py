"""For how long the oldest record waits, known from how long the log was when it was looked at."""

from hypothesis import given
from hypothesis import strategies as st

from leadstream.wiring import BacklogAgeEstimate


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_it_grows_while_a_record_waits_and_ends_when_that_is_folded():
    clock = Clock()
    ages = BacklogAgeEstimate(clock)
    assert ages.age(10, 0) == 0
    clock.now = 5
    assert ages.age(12, 2) == 0, "they may have come just now"
    clock.now = 65
    assert ages.age(500, 490) == 60, "the oldest has been there for 60 s, however many came since"
    clock.now = 70
    assert ages.age(600, 300) == 5, "what was there at 5 s is folded; what was there at 65 s is not"
    clock.now = 71
    assert ages.age(600, 0) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 80)), min_size=1, max_size=60))
def test_it_is_never_longer_than_a_record_has_waited_nor_shorter_by_more_than_a_look(steps):
    """A look each second: so many came, so many were folded."""
    clock, came, folded = Clock(), [], 0
    ages = BacklogAgeEstimate(clock)
    for second, (arrived, done) in enumerate(steps):
        clock.now = float(second)
        came += [second] * arrived
        folded = min(len(came), folded + done)
        waited = 0 if folded == len(came) else second - came[folded]
        assert ages.age(len(came), len(came) - folded) == waited


def test_it_remembers_a_bounded_number_of_looks():
    clock = Clock()
    ages = BacklogAgeEstimate(clock)
    for second in range(10_000):
        clock.now = float(second)
        ages.age(second + 1, second + 1)
    assert len(ages._seen) <= 1_001
    assert ages.age(10_001, 10_001) == 9_999
