"""What may not stand in a log."""

import pytest

from gateway.masking import mask_personal, mask_text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail from ada.lovelace@example.com", "mail from a***@example.com"),
        ("/api/leads/ada@example.co.uk", "/api/leads/a***@example.co.uk"),
        ("called +971 50 123 4567 twice", "called ***67 twice"),
        ("0501234567", "***67"),
        ("2030-01-31T12:00:00.123456+00:00", "2030-01-31T12:00:00.123456+00:00"),
        ("lead 42, 120 points", "lead 42, 120 points"),
        ("3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
    ],
)
def test_addresses_are_masked_and_the_rest_stays(text, masked):
    assert mask_text(text) == masked


def test_an_entry_is_masked_however_deep():
    entry = {
        "event": "refused",
        "email": "ada@example.com",
        "lead": {"phone": "+1", "tags": ["b@c.example", 7]},
        "timestamp": "2030-01-31 12:00:00",
    }
    assert mask_personal(None, "info", entry) == {
        "event": "refused",
        "email": "***",
        "lead": {"phone": "***", "tags": ["b***@c.example", 7]},
        "timestamp": "2030-01-31 12:00:00",
    }
