"""Whose payouts go first is a setting, and a word that is none of it is said to be."""

import base64

import pytest

from vault_core.errors import ConfigurationError
from vault_core.settings import FirstServed, read_settings

ENVIRONMENT = {
    "VAULT_DATABASE_URL": "postgresql://vault_app@localhost/vault",
    "VAULT_KAFKA_BOOTSTRAP": "localhost:9092",
    "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
}


def test_the_oldest_go_first_unless_set_otherwise() -> None:
    assert read_settings(ENVIRONMENT).pace.first_served is FirstServed.OLDEST
    assert read_settings(ENVIRONMENT | {"VAULT_FIRST_SERVED": " Largest"}).pace.first_served is FirstServed.LARGEST


def test_a_word_that_is_no_order_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="VAULT_FIRST_SERVED='biggest' is none of oldest, largest, smallest"):
        read_settings(ENVIRONMENT | {"VAULT_FIRST_SERVED": "biggest"})
