import pytest

from local_stack.home import Home, prepare
from local_stack.master_key import ensure_master_key
from vault_core.errors import ConfigurationError
from vault_core.secrets import read_master_key_file


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / ".vault")
    prepare(home)
    return home


def test_a_new_installation_gets_a_key_that_only_its_owner_reads_and_keeps_it(home) -> None:
    ensure_master_key(home, {}, sealed_data_exists=False)
    first = home.master_key.read_text()
    assert home.master_key.stat().st_mode & 0o777 == 0o600
    read_master_key_file(home.master_key)
    ensure_master_key(home, {}, sealed_data_exists=True)
    assert home.master_key.read_text() == first


def test_a_missing_key_is_not_replaced_when_there_is_data(home) -> None:
    with pytest.raises(ConfigurationError, match="is missing, but the database is there"):
        ensure_master_key(home, {}, sealed_data_exists=True)
    assert not home.master_key.exists()


def test_a_key_that_others_can_read_is_refused(home) -> None:
    ensure_master_key(home, {}, sealed_data_exists=False)
    home.master_key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ensure_master_key(home, {}, sealed_data_exists=True)


def test_a_key_of_the_user_is_checked_and_none_is_made(home, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="base64"):
        ensure_master_key(home, {"VAULT_MASTER_KEY": "k1:???"}, sealed_data_exists=False)
    with pytest.raises(ConfigurationError, match="is missing"):
        ensure_master_key(home, {"VAULT_MASTER_KEY_FILE": str(tmp_path / "none")}, sealed_data_exists=False)
    assert not home.master_key.exists()
