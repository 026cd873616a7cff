import pytest


@pytest.fixture(scope="session")
def tiny_task(tiny_task):
    """Evaluate without repair: agents do not depend on it, and it takes most of the time."""
    return tiny_task | {"repair": "none"}
