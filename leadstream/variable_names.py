"""The names of the settings' environment variables."""

VARIABLE_PREFIX = "LEADSTREAM_"


def variable_name(name: str) -> str:
    """The variable of the setting `name`."""
    return VARIABLE_PREFIX + name.upper()
