import pytest


@pytest.fixture
def database_url(read_models_url):
    """A fresh database, already migrated: migrations take longer than most projections."""
    return read_models_url
