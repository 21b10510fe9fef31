"""Outbound webhooks keep to Standard Webhooks."""

from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from delivery.channels.webhook import signed_headers, webhook_body
from delivery.secret_text import SecretText
from delivery.templates import SAMPLE

PUBLISHED_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLISHED_KEY = "msg_p5jXN8AQM9LWM0D4loKWxJek"
PUBLISHED_BODY = b'{"test": 2432232314}'
PUBLISHED_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""The vector of the specification's reference libraries, for second 1614265330."""
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def test_the_published_vector_is_signed_alike():
    headers = signed_headers(
        (SecretText(PUBLISHED_SECRET),),
        PUBLISHED_KEY,
        datetime.fromtimestamp(1614265330, UTC),
        PUBLISHED_BODY,
    )
    assert headers["webhook-id"] == PUBLISHED_KEY
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == PUBLISHED_SIGNATURE


def test_the_zone_of_the_moment_changes_nothing():
    from datetime import timedelta, timezone

    moment = datetime.fromtimestamp(1614265330, timezone(timedelta(hours=5, minutes=30)))
    headers = signed_headers((SecretText(PUBLISHED_SECRET),), PUBLISHED_KEY, moment, PUBLISHED_BODY)
    assert headers["webhook-signature"] == PUBLISHED_SIGNATURE


@pytest.mark.parametrize("receiver_has", [PUBLISHED_SECRET, OTHER_SECRET])
def test_while_keys_are_changed_a_receiver_with_either_verifies(receiver_has):
    body = webhook_body(SAMPLE)
    headers = signed_headers(
        (SecretText(OTHER_SECRET), SecretText(PUBLISHED_SECRET)), SAMPLE.key, datetime.now(UTC), body
    )
    assert len(headers["webhook-signature"].split(" ")) == 2
    said = Webhook(receiver_has).verify(body, headers)
    assert said["type"] == "workflow.triggered"
    assert said["data"]["lead"]["id"] == "lead-123"


def test_a_body_is_the_same_at_every_attempt():
    assert webhook_body(SAMPLE) == webhook_body(SAMPLE._replace(attempt=9))
