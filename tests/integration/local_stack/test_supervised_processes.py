import os
import signal
import time

import psutil
import pytest
from sqlalchemy import create_engine, text

from local_stack import stack as stacks
from local_stack.topics import ensure_topics
from local_stack.waiting import wait_for
from tests.private_stack import DAGSTER, PrivateStack, start_private_stack
from vault_core.errors import Unreachable
from vault_core.topics import TOPICS


@pytest.fixture(scope="module")
def stack():
    with start_private_stack(without=DAGSTER) as running:
        yield running


@pytest.mark.parametrize("name", ["postgres", "kafka", "receiver", "portal", "worker-1"])
def test_a_process_killed_with_9_serves_again_by_itself(stack: PrivateStack, name: str, record_property) -> None:
    for needed in ("postgres", "kafka", "receiver", "worker-1"):
        stack.wait_until_serving(needed)
    before = stack.state(name)
    started = time.monotonic()
    killed = stack.kill(name)
    stack.wait_until_serving(name, other_than=killed, seconds=60)
    record_property("seconds", time.monotonic() - started)
    assert (
        stack.state(name).restarts > before.restarts
    )  # PostgreSQL may be refused its memory once while children of the killed one end


def test_the_receiver_serves_again_when_the_process_that_does_the_work_is_killed(stack: PrivateStack) -> None:
    wait_for(lambda: bool(stack.children("receiver")), seconds=30, what="the receiver's worker")
    killed = stack.kill_children("receiver")
    wait_for(lambda: bool(stack.children("receiver") - killed), seconds=30, what="another worker")
    stack.wait_until_serving("receiver")


@pytest.mark.parametrize("name", ["receiver", "portal"])
def test_no_worker_of_a_killed_main_process_goes_on_serving(stack: PrivateStack, name: str) -> None:
    wait_for(lambda: bool(stack.children(name)), seconds=30, what="its worker")
    old = stack.children(name)
    killed = stack.kill(name)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in old), seconds=30, what="the old workers to end")
    stack.wait_until_serving(name, other_than=killed)


def test_what_was_committed_outlives_a_killed_database(stack: PrivateStack) -> None:
    engine = create_engine(stack.plan.owner_database_url())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (n int)"))
        connection.execute(text("INSERT INTO kept VALUES (42)"))
    killed = stack.kill("postgres")
    stack.wait_until_serving("postgres", other_than=killed)
    engine.dispose()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT n FROM kept")).scalar_one() == 42
        connection.execute(text("DROP TABLE kept"))
    engine.dispose()


def test_up_again_changes_nothing_that_runs(stack: PrivateStack) -> None:
    before = {name: state.pid for name, state in stack.plan.supervision.states().items()}
    plan = stacks.up(stack.home, stack.given, without=DAGSTER)
    assert {name: state.pid for name, state in plan.supervision.states().items()} == before


def test_making_the_topics_again_changes_nothing(stack: PrivateStack) -> None:
    ensure_topics(stack.plan.kafka_bootstrap)
    ensure_topics(stack.plan.kafka_bootstrap, TOPICS[:1])


def test_two_homes_run_side_by_side(stack: PrivateStack) -> None:
    with start_private_stack(
        without=DAGSTER | {"kafka", "worker-1", "receiver", "portal"}, VAULT_KAFKA_BOOTSTRAP=stack.plan.kafka_bootstrap
    ) as other:
        assert other.plan.database_url != stack.plan.database_url
        assert {part.number for part in other.plan.ports.values()}.isdisjoint(port.number for port in stack.plan.ports.values())
        assert other.state("postgres").pid != stack.state("postgres").pid


def test_down_leaves_nothing_running_and_up_goes_on_with_the_same_data_and_ports(stack: PrivateStack) -> None:
    engine = create_engine(stack.plan.owner_database_url())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE stays (n int)"))
    engine.dispose()
    key, ports = stack.home.master_key.read_bytes(), stack.home.ports_file.read_bytes()
    assert stacks.down(stack.home, stack.given)
    assert not stacks.down(stack.home, stack.given)
    assert [part for part in stacks.status(stack.home, stack.given) if part.healthy] == []
    stacks.up(stack.home, stack.given, without=DAGSTER)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE stays"))
    engine.dispose()
    assert (stack.home.master_key.read_bytes(), stack.home.ports_file.read_bytes()) == (key, ports)


def test_processes_that_a_killed_supervisor_left_behind_do_not_stop_the_next_up(stack: PrivateStack) -> None:
    left = stack.state("kafka").pid
    os.kill(int(stack.plan.supervision.pid_file.read_text()), signal.SIGKILL)
    stacks.up(stack.home, stack.given, without=DAGSTER)
    stack.wait_until_serving("kafka", other_than=left)


def test_a_part_that_keeps_ending_is_told_with_the_end_of_its_log_without_a_long_wait(stack: PrivateStack) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"receiver does not serve[\s\S]*VAULT_RECEIVER_WRITERS"):
        stacks.up(stack.home, stack.given | {"VAULT_RECEIVER_WRITERS": "many"}, without=DAGSTER)
    assert time.monotonic() - started < 100
    stacks.up(stack.home, stack.given, without=DAGSTER)
