"""The configuration of delivery that the settings name, for the worker and for test messages of the gateway."""

from collections.abc import Sequence
from functools import partial

from delivery.configuration import (
    BUILT_IN_CONFIGURATION,
    ConfigurationError,
    DeliveryConfiguration,
    read_configuration,
)
from delivery.message import ChannelResult, Message
from delivery.trial_sending import send_trial
from gateway.ports import SendTrial
from gateway.row_changes import change_rows
from leadstream.clock import utc_now
from leadstream.settings import SettingError, Settings


def delivery_configuration(settings: Settings) -> DeliveryConfiguration:
    """Raises SettingError."""
    if settings.delivery is None:
        return BUILT_IN_CONFIGURATION
    try:
        return read_configuration(settings.delivery)
    except ConfigurationError as cause:
        raise SettingError(f"LEADSTREAM_DELIVERY: {cause}.") from None


def trial_port(settings: Settings, database_url: str) -> SendTrial:
    """The port by which the gateway sends test messages."""
    configuration = delivery_configuration(settings)

    async def send(message: Message) -> Sequence[ChannelResult]:
        return await send_trial(configuration, message, partial(change_rows, database_url), utc_now())

    return send
