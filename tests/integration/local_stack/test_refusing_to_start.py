import socket

import pytest

from local_stack import embedded_kafka, stack
from local_stack.embedded_kafka import KafkaPlace
from local_stack.embedded_postgres import temporary_postgres
from local_stack.home import prepare
from local_stack.kafka_jars import KafkaLock, ensure_jars, read_lock
from vault_core.errors import ConfigurationError, Unreachable


def _given(**settings: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", **settings}


def test_a_jar_that_was_tampered_with_is_refused_and_not_run(tmp_path, kafka_jars) -> None:
    lock = read_lock()
    jar = min(lock.jars, key=lambda one: (kafka_jars / one.filename).stat().st_size)
    (tmp_path / jar.filename).write_bytes((kafka_jars / jar.filename).read_bytes() + b"\0")
    with pytest.raises(ConfigurationError, match=r"not the file that kafka\.lock\.toml names") as refusal:
        ensure_jars(tmp_path, {}, lock=KafkaLock(lock.version, (jar,)))
    assert jar.filename in str(refusal.value)
    assert jar.sha256 in str(refusal.value)


def test_a_fetched_jar_that_is_not_the_locked_one_is_refused_and_not_kept(tmp_path, jar_server) -> None:
    jar, url = jar_server(b"not the broker")
    with pytest.raises(ConfigurationError, match=r"not the file that kafka\.lock\.toml names"):
        ensure_jars(tmp_path, {"VAULT_MAVEN_URL": url}, lock=KafkaLock("4.4.0", (jar,)))
    assert list(tmp_path.iterdir()) == []


def test_a_jar_that_cannot_be_had_is_named_with_what_to_do(tmp_path, jar_server) -> None:
    jar, _url = jar_server(b"x")
    with pytest.raises(Unreachable, match="VAULT_MAVEN_URL"):
        ensure_jars(tmp_path, {"VAULT_MAVEN_URL": "http://127.0.0.1:9"}, lock=KafkaLock("4.4.0", (jar,)))


def test_a_taken_port_is_named_with_who_set_it(short_home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {number} \(receiver, set by VAULT_PORT_RECEIVER\) is taken"):
            stack.up(short_home, _given(VAULT_PORT_RECEIVER=str(number)))
    assert not short_home.postgres.exists()


def test_a_lost_master_key_is_never_replaced_while_there_is_data(short_home) -> None:
    prepare(short_home)
    short_home.postgres.mkdir()
    (short_home.postgres / "PG_VERSION").write_text("18\n")
    with pytest.raises(ConfigurationError, match=r"master key .* is missing, but the database is there"):
        stack.up(short_home, _given())
    assert not short_home.master_key.exists()


def test_a_home_that_vault_did_not_make_is_left_alone(short_home) -> None:
    short_home.path.mkdir()
    (short_home.path / "letters.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"no vault\.toml"):
        stack.up(short_home, _given())
    assert [path.name for path in short_home.path.iterdir()] == ["letters.txt"]


def test_half_made_kafka_data_is_named_as_damaged(tmp_path, kafka_jars) -> None:
    place = KafkaPlace(tmp_path / "kafka", kafka_jars, 20001, 20002)
    place.log_segments.mkdir(parents=True)
    (place.log_segments / "left-over").write_text("")
    with pytest.raises(ConfigurationError, match="damaged"):
        embedded_kafka.make_ready(place)


def test_an_unreachable_database_of_the_user_is_named(short_home) -> None:
    url = "postgresql://nobody@127.0.0.1:9/vault"
    with pytest.raises(Unreachable, match="VAULT_OWNER_DATABASE_URL"):
        stack.up(short_home, _given(VAULT_DATABASE_URL=url, VAULT_OWNER_DATABASE_URL=url, VAULT_KAFKA_BOOTSTRAP="127.0.0.1:9"))


def test_a_database_of_the_user_needs_both_its_addresses(short_home) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_OWNER_DATABASE_URL is not set"):
        stack.up(
            short_home, _given(VAULT_DATABASE_URL="postgresql://vault_app@127.0.0.1:9/vault", VAULT_KAFKA_BOOTSTRAP="127.0.0.1:9")
        )


def test_a_wrong_setting_of_the_user_is_told_from_the_log_of_postgres(short_folder) -> None:
    with temporary_postgres(short_folder) as place:
        custom = place.data / "custom.conf"
    custom.write_text("shared_buffers = 'plenty'\n")
    with pytest.raises(ConfigurationError, match=r"look into custom\.conf"), temporary_postgres(short_folder):
        pass


def test_a_setting_that_the_processes_would_stumble_over_is_told_before_any_starts(short_home) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_HTTP_TIMEOUT='soon' is not a number"):
        stack.up(short_home, _given(VAULT_HTTP_TIMEOUT="soon"))
    assert not short_home.postgres.exists()
