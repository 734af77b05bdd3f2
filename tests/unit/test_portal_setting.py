import base64

import pytest

from vault_core.errors import ConfigurationError
from vault_core.settings import read_settings

NEEDED = {
    "VAULT_DATABASE_URL": "postgresql://localhost/vault",
    "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, None),
        ({"VAULT_PORTAL_URL": " "}, None),
        ({"VAULT_PORTAL_URL": "https://portal.example.co.ke/"}, "https://portal.example.co.ke"),
        ({"VAULT_PORTAL_URL": "http://127.0.0.1:8080/pay"}, "http://127.0.0.1:8080/pay"),
        ({"VAULT_PORTAL_URL": "https://" + "p" * 72}, "https://" + "p" * 72),
    ],
)
def test_the_portal_is_an_address_without_a_slash_at_the_end_or_none_is_run(given: dict[str, str], read: str | None) -> None:
    assert read_settings(NEEDED | given).portal_url == read


@pytest.mark.parametrize(
    "wrong", ["portal.example.co.ke", "ftp://x", "https://", "https://a b", "https://ä.ke", "https://" + "p" * 73]
)
def test_what_could_not_stand_in_a_text_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_PORTAL_URL"):
        read_settings(NEEDED | {"VAULT_PORTAL_URL": wrong})
