"""What a tenant's analytics depend on besides the facts. If it changes, every lead of the tenant is computed again."""

from msgspec import Struct


class AnalyticsSettings(Struct, frozen=True):
    time_zone: str = "UTC"
    attribution: str = ""
    """The text that defines touchpoints and channels; none: the built-in one."""
