"""Long polling against a server that keeps to Telegram's contract."""

import pytest

from gateway.door.telegram_bots import TelegramBot
from gateway.telegram_client import TelegramRefused, TelegramUnavailable, call, download
from leadstream.console import Failure
from leadstream.operations.telegram_polling import (
    NotDelivered,
    delete_webhook,
    deliver_to,
    follow,
    set_webhook,
)
from leadstream.settings import SettingError, read_settings
from tests.gateway.fake_telegram import SECRET, TOKEN, VOICE, fake_telegram

BOT = TelegramBot("realty", "default", SECRET, TOKEN)


class Enough(Exception):
    """Ends `follow` in its next pause, or in its next delivery."""


@pytest.fixture
def telegram():
    with fake_telegram() as fake:
        yield fake


def update(number):
    return {"update_id": number, "message": {"text": f"message {number}"}}


def asked(telegram, method):
    return [parameters for name, parameters in telegram.calls if name == method]


def test_every_update_is_delivered_in_order_and_confirmed_by_the_next_offset(telegram):
    telegram.updates = [update(number) for number in range(900, 1_003)]
    delivered = []

    def deliver(bot, each):
        if each["update_id"] == 2_000:
            raise Enough
        delivered.append((bot.name, each["update_id"]))
        if len(delivered) == 103:
            telegram.updates.append(update(2_000))
        return {}

    with pytest.raises(Enough):
        follow(telegram.address, BOT, deliver)
    assert delivered == [("realty", number) for number in range(900, 1_003)]
    requests = asked(telegram, "getUpdates")
    assert [each.get("offset") for each in requests] == [None, 1_000, 1_003]
    assert requests[0] == {"timeout": 50, "limit": 100, "allowed_updates": ["message", "callback_query"]}


def test_an_update_that_the_server_does_not_take_comes_again(telegram):
    telegram.updates = [update(1), update(2)]
    tried, pauses = [], []

    def deliver(_bot, each):
        tried.append(each["update_id"])
        if tried == [1, 2]:
            raise NotDelivered("the server is down")
        if tried == [1, 2, 2]:
            raise Enough
        return {}

    with pytest.raises(Enough):
        follow(telegram.address, BOT, deliver, pauses.append)
    assert pauses == [1.0]
    assert [each.get("offset") for each in asked(telegram, "getUpdates")] == [None, 2]


def test_a_flood_is_waited_for_as_long_as_telegram_says(telegram):
    telegram.errors = [
        {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 35",
            "parameters": {"retry_after": 35},
        },
        {"ok": False, "error_code": 502, "description": "Bad Gateway"},
    ]
    telegram.updates = [update(1)]
    pauses = []

    def deliver(*_):
        raise Enough

    with pytest.raises(Enough):
        follow(telegram.address, BOT, deliver, pauses.append)
    assert pauses == [35.0, 2.0]


def test_the_press_of_a_button_is_answered_by_telegrams_method(telegram):
    telegram.updates = [update(1), update(2)]

    def deliver(_bot, each):
        if each["update_id"] == 2:
            raise Enough
        return {"events": [], "method": "answerCallbackQuery", "callback_query_id": "4382"}

    with pytest.raises(Enough):
        follow(telegram.address, BOT, deliver)
    assert asked(telegram, "answerCallbackQuery") == [{"callback_query_id": "4382"}]


def test_a_webhook_excludes_polling_until_it_is_deleted(telegram):
    address = set_webhook(telegram.address, BOT, "https://leads.example/")
    assert address == "https://leads.example/v1/telegram/realty"
    assert telegram.webhook == {
        "url": address,
        "secret_token": SECRET,
        "allowed_updates": ["message", "callback_query"],
    }
    with pytest.raises(Failure, match="--delete-webhook"):
        follow(telegram.address, BOT, lambda *_: {})
    delete_webhook(telegram.address, BOT)
    assert telegram.webhook == {}


def test_a_wrong_token_ends_polling_and_is_not_shown(telegram):
    wrong = TelegramBot("realty", "default", SECRET, TOKEN + "x")
    with pytest.raises(Failure, match="Check its token") as failure:
        follow(telegram.address, wrong, lambda *_: {})
    assert TOKEN not in str(failure.value)
    assert "Unauthorized" in str(failure.value)


def test_no_error_of_the_client_shows_the_token(telegram):
    with pytest.raises(TelegramUnavailable) as unavailable:
        call("http://127.0.0.1:1", BOT, "getMe", {})
    assert TOKEN not in repr(unavailable.value)
    assert unavailable.value.__cause__ is None
    telegram.errors = [{"ok": False, "error_code": 400, "description": f"strange: {TOKEN}"}]
    with pytest.raises(TelegramRefused) as refused:
        call(telegram.address, BOT, "getMe", {})
    assert str(refused.value) == "400 strange: ***"


def test_a_file_is_downloaded_by_its_id(telegram):
    assert download(telegram.address, BOT, "AwADBAADbXXXXXXXXXXXGBdhD2l6_XX") == ("file_7.oga", VOICE)
    with pytest.raises(TelegramRefused, match="invalid file_id"):
        download(telegram.address, BOT, "unknown")


def test_a_wrong_setting_is_refused_at_the_start_without_its_secrets():
    good = f"default:realty:{SECRET}:{TOKEN}"
    assert read_settings(telegram_bots=good).bots == {"realty": BOT}
    for name, value in (
        ("telegram_bots", f"{good},{good}"),
        ("telegram_api", f"https://{TOKEN}@api.example"),
        ("telegram_api", "api.example"),
        ("whatsapp", f"default:sales:{SECRET}"),
    ):
        with pytest.raises(SettingError, match=f"LEADSTREAM_{name.upper()}") as refused:
            read_settings(**{name: value})
        assert SECRET not in str(refused.value)
    assert TOKEN not in repr(read_settings(telegram_bots=good))


def test_without_a_server_an_update_waits():
    with pytest.raises(NotDelivered, match="cannot be reached"):
        deliver_to("http://127.0.0.1:1")(BOT, update(1))
