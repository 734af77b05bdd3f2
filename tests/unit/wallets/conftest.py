from uuid import UUID, uuid4

import pytest


@pytest.fixture
def partner_id() -> UUID:
    return uuid4()
