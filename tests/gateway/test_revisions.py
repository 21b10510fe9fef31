"""What changed between two texts: right however long they are."""

import random

import pytest

from authoring.revisions import MOST_LINES_COMPARED, unified_diff_of_lines


def applied(before, diff):
    """The lines after a unified diff, as `patch` makes them."""
    after, at, hunks = [], 0, list(diff)[2:]
    for line in hunks:
        if line.startswith("@@"):
            begin = int(line.split()[1][1:].split(",")[0]) - 1
            after += before[at:begin]
            at = begin
        elif line.startswith("+"):
            after.append(line[1:])
        else:
            assert before[at] == line[1:]
            at += 1
            if line.startswith(" "):
                after.append(line[1:])
    return after + before[at:]


@pytest.mark.parametrize(
    "length", [0, 1, 5, MOST_LINES_COMPARED - 5, MOST_LINES_COMPARED + 1, 3 * MOST_LINES_COMPARED]
)
@pytest.mark.parametrize("where", ["begin", "middle", "end", "several", "all"])
def test_a_diff_leads_from_the_one_text_to_the_other(length, where):
    chance = random.Random(length)
    before = [f"{chance.randrange(40)}\n" for _ in range(length)]
    after = list(before)
    places = {"begin": [0], "middle": [length // 2], "end": [length], "several": [1, length // 2, length - 1]}
    for place in sorted(places.get(where, range(0, length, 2)), reverse=True):
        after[max(place, 0) : max(place, 0) + chance.randrange(3)] = ["new\n", "newer\n"]
    assert applied(before, unified_diff_of_lines(before, after, "old", "new")) == after


def test_a_text_differs_in_nothing_from_itself():
    same = ["a\n"] * (MOST_LINES_COMPARED + 1)
    assert list(unified_diff_of_lines(same, same, "old", "new")) == []
