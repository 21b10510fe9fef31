import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def database_url(read_models_url):
    """A fresh database, already migrated: the gateway reads what others have made."""
    return read_models_url
