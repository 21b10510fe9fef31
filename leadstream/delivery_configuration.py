"""The configuration of delivery that the settings name, for the worker and for test messages of the gateway."""

from delivery.configuration import (
    BUILT_IN_CONFIGURATION,
    ConfigurationError,
    DeliveryConfiguration,
    read_configuration,
)
from leadstream.settings import SettingError, Settings


def delivery_configuration(settings: Settings) -> DeliveryConfiguration:
    """Raises SettingError."""
    if settings.delivery is None:
        return BUILT_IN_CONFIGURATION
    try:
        return read_configuration(settings.delivery)
    except ConfigurationError as cause:
        raise SettingError(f"LEADSTREAM_DELIVERY: {cause}.") from None
