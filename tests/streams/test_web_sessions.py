"""Which events belong to web sessions: each event type needs a decision."""

import pytest

from schemas.events import EVENT_TYPES
from streams.track_sessions.web_sessions import (
    BELONGS_TO_OPEN_SESSION,
    OUTSIDE_SESSIONS,
    STARTS_OR_LENGTHENS_SESSION,
)


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda each: each.__name__)
def test_every_event_type_is_in_exactly_one_list(event_type):
    lists = (STARTS_OR_LENGTHENS_SESSION, BELONGS_TO_OPEN_SESSION, OUTSIDE_SESSIONS)
    assert sum(event_type in each for each in lists) == 1, (
        f"decide in web_sessions.py about {event_type.__name__}"
    )
