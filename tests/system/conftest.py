"""What crash tests on Kafka start with."""

import pytest
from crew import Crew


@pytest.fixture
def crew(tmp_path):
    crew = Crew(tmp_path)
    yield crew
    crew.close()


@pytest.fixture
def hold(tmp_path):
    """While there is this file, no worker ends restoring."""
    return tmp_path / "hold"
