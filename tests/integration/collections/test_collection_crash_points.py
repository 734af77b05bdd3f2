"""The worker dies with -9 on a payment's way, and the day ends with nothing lost, booked, posted, given back or texted twice.

The points are found by going a way once and writing down what is reached: a new transaction or call is covered by itself. Here the
plain way's commits and calls; every point of every way, under each fault of the outside, and that no commit is left out:
`./vault test -m campaign tests/integration/collections/test_collection_crash_points.py`.
"""

import asyncio
import base64
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.database_urls import app_url
from tests.integration.callback_receiver.conftest import ReceiverProcess
from tests.integration.collections.crash_day import ENVIRONMENT, FAULTS, PLAIN, WAYS, CollectionDay, open_pay_bill
from tests.integration.disbursements.fault_places import commits_in
from tests.sandbox_process import start_sandbox

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
JOURNEYS = [*((way, None) for way in WAYS), *((way, fault) for way, faults in FAULTS.items() for fault in faults)]
IN_THE_MODEL = "test_payment_model.py dies at every commit of it"
AGAIN = "what it notes the next look, or a person who runs the command again, notes"
OFF_THE_WAYS = {
    **dict.fromkeys(
        (
            "collections.assigning.lapse_decisions",
            "collections.assigning.reject",
            "collections.posting._text",
            "collections.resuming.resume_collections",
            "collections.reversal_seen.state_reversal",
            "collections.undoing._put_off",
            "collections.undoing._record",
        ),
        IN_THE_MODEL,
    ),
    **dict.fromkeys(
        (
            "collections.balance_gaps._check",
            "collections.feed_health.note_lost",
            "collections.mirror_refresh._read_all",
            "collections.mirror_refresh._refresh",
            "collections.mirror_refresh._write",
            "collections.mirror_refresh._write_page",
            "collections.mirror_refresh.refresh_mirrors.take",
            "collections.pull_registration.register_pull",
            "collections.pull_sweeping._fail",
            "collections.purging.purge_feed_answers",
        ),
        AGAIN,
    ),
}


@pytest.fixture
def day(owner_url: str, tmp_path: Path) -> Iterator[CollectionDay]:
    with start_sandbox() as sandbox:
        environment = ENVIRONMENT | {
            "VAULT_DATABASE_URL": app_url(owner_url),
            "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9",
            "VAULT_MASTER_KEY": f"test:{KEY}",
        }
        receiver = ReceiverProcess({**os.environ, **environment}, tmp_path / "receiver.log")
        try:
            environment["VAULT_PUBLIC_URL"] = receiver.url
            asyncio.run(open_pay_bill(environment, sandbox))
            yield CollectionDay(environment, owner_url, sandbox, receiver)
        finally:
            receiver.stop()


def passings(day: CollectionDay, file: Path, way: str, fault: str | None = None) -> Counter[str]:
    """How often a payment that goes this way passes each fault point."""
    day.begin(way, fault)
    assert not day.work(f"write to {file}").killed
    day.end(at="no death")
    return Counter(file.read_text().splitlines())


def test_a_worker_dies_after_each_commit_and_call_of_a_payment_and_the_day_ends_right(day: CollectionDay, tmp_path: Path) -> None:
    points = passings(day, tmp_path / "points", PLAIN)
    deaths = [
        point
        for point, times in points.items()
        if re.fullmatch(r"after .*(commit|POST) (?!.*(pull|token|control)).*", point) and times == 1
    ]
    assert len(deaths) > 8, "its commits, what it asks for and what it hears"
    for point in deaths:
        day.begin(PLAIN)
        assert day.work(f"die at {point}", patient=False).killed, point  # the next one finds what this one left
    day.end(at="a death at each point")


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("deaths", [1, 2])
@pytest.mark.parametrize(("way", "fault"), JOURNEYS)
def test_a_death_at_any_point_of_any_way_under_any_fault(
    day: CollectionDay, tmp_path: Path, way: str, fault: str | None, deaths: int
) -> None:
    for point, times in passings(day, tmp_path / "points", way, fault).items():
        for passing in sorted({1, times}):
            day.begin(way, fault)
            died = [day.work(f"die at {point} #{passing}").killed for _ in range(deaths)]
            day.end(at=f"{died} deaths at {point} #{passing}")


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_every_commit_of_collections_is_on_a_way_or_died_at_elsewhere(day: CollectionDay, tmp_path: Path) -> None:
    reached = {
        point.partition(" commit ")[2]
        for number, (way, fault) in enumerate(JOURNEYS)
        for point in passings(day, tmp_path / f"points{number}", way, fault)
        if " commit " in point
    }
    never = commits_in("vault_core/collections") - reached
    assert not never - set(OFF_THE_WAYS), f"nobody dies at these commits: {sorted(never - set(OFF_THE_WAYS))}"
    assert not reached & set(OFF_THE_WAYS), f"these are on a way: {sorted(reached & set(OFF_THE_WAYS))}"


@pytest.mark.campaign
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_receiver_that_dies_around_its_commit_loses_no_payment(day: CollectionDay, moment: str) -> None:
    day.control("settings", {"delivery_tries": 1})  # M-Pesa does not repeat a confirmation: a pull tells what was not stored
    day.receiver.stop()
    day.receiver.environment["VAULT_FAULT_POINT"] = f"die at {moment} commit inbox.receiving.DeliveryStore.store"
    day.receiver.start()
    day.begin(PLAIN)
    day.work(patient=False)
    assert "SIGKILL" in day.receiver.log_file.read_text() or day.receiver.process.poll() is not None
    day.receiver.stop()
    del day.receiver.environment["VAULT_FAULT_POINT"]
    day.receiver.start()
    day.end(at=f"the receiver's death {moment} its commit")
