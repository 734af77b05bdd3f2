import random
import socket

import pytest

from local_stack.home import Home, prepare
from local_stack.ports import NAMES, require_free, settle_ports
from vault_core.errors import ConfigurationError


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / ".vault")
    prepare(home)
    return home


def test_ports_are_chosen_once_and_kept(home) -> None:
    first = settle_ports(home, {}, random.Random(1))
    second = settle_ports(home, {}, random.Random(2))
    assert first == second
    assert set(first) == set(NAMES)
    assert len({port.number for port in first.values()}) == len(NAMES)


def test_a_variable_wins_over_the_kept_port_for_as_long_as_it_is_set(home) -> None:
    kept = settle_ports(home, {}, random.Random(1))["receiver"]
    set_port = settle_ports(home, {"VAULT_PORT_RECEIVER": "8000"}, random.Random(1))["receiver"]
    assert (set_port.number, set_port.set_by) == (8000, "VAULT_PORT_RECEIVER")
    assert settle_ports(home, {}, random.Random(1))["receiver"] == kept


@pytest.mark.parametrize("value", ["0", "65536", "http", "-1", "80.5"])
def test_what_is_not_a_port_is_refused_with_its_variable(home, value) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_PORT_DAGSTER"):
        settle_ports(home, {"VAULT_PORT_DAGSTER": value}, random.Random(1))


def test_one_port_for_two_is_refused(home) -> None:
    with pytest.raises(ConfigurationError, match="both"):
        settle_ports(home, {"VAULT_PORT_DAGSTER": "8000", "VAULT_PORT_RECEIVER": "8000"}, random.Random(1))


def test_a_damaged_file_is_named(home) -> None:
    home.ports_file.write_text("receiver = = 1")
    with pytest.raises(ConfigurationError, match=r"ports\.toml is damaged"):
        settle_ports(home, {}, random.Random(1))


def test_a_port_that_somebody_listens_on_is_taken_and_a_closed_one_is_free(home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = settle_ports(home, {"VAULT_PORT_KAFKA": str(other.getsockname()[1])}, random.Random(1))
        with pytest.raises(ConfigurationError, match="VAULT_PORT_KAFKA"):
            require_free([ports["kafka"]])
    require_free([ports["kafka"]])
