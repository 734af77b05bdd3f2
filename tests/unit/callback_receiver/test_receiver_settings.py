import pytest

from callback_receiver.receiver_settings import ReceiverSettings, read_receiver_settings
from vault_core.errors import ConfigurationError


def test_what_is_not_set_has_its_default():
    assert read_receiver_settings({}) == ReceiverSettings()


def test_what_is_set_is_taken():
    settings = read_receiver_settings({"VAULT_RECEIVER_BODY_CAP": "10", "VAULT_RECEIVER_COMMIT_WITHIN": "0.5"})
    assert (settings.body_cap, settings.commit_within) == (10, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("VAULT_RECEIVER_BODY_CAP", "many"), ("VAULT_RECEIVER_WRITERS", "0"), ("VAULT_TRUSTED_PROXIES", "10.0.0.0/99")],
)
def test_a_wrong_setting_is_named(name, value):
    with pytest.raises(ConfigurationError, match=name):
        read_receiver_settings({name: value})
