"""The worker dies with -9 at every fault point of a payout's way, and the day still ends with nothing paid, posted or texted twice.

The points are found by running the same loans once and writing down what is reached: a new transaction or call is covered by
itself. `./vault test -m campaign tests/integration/disbursements/test_crash_points.py` dies in every state that a day passes, under
each fault of the outside, once or twice in a row.
"""

import asyncio
import base64
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.database_urls import app_url
from tests.integration.callback_receiver.conftest import ReceiverProcess
from tests.integration.disbursements.conftest import SHORT_CODE, client, lender_file, loan, world
from tests.integration.disbursements.crash_day import PACE, Ended, truth_of, work_in_child
from tests.integration.disbursements.fault_places import commits_in
from tests.integration.disbursements.moved_receiver import CLOCK_FILE, MOVED_RECEIVER
from tests.integration.disbursements.test_deaths_at_acts import ACTS
from tests.sandbox_process import start_sandbox
from vault_core.database import open_sync_engine
from vault_core.ledger.verification import verify_ledger
from vault_core.money import Money
from vault_core.partners.callback_urls import CallbackPurpose, callback_token
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.products import Limits, enable_product
from vault_core.partners.registration import register_partner
from vault_core.runtime import open_runtime
from vault_core.settings import read_settings
from vault_core.wallets.topup import record_topup

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
PLAIN, LOST, HOOK, TRANCHES = "plain", "result_lost", "hook", "tranches"
WAYS = (LOST, HOOK, TRANCHES, PLAIN)  # that together reach every fault point of a day on which all is well but a result
FAULTS = (
    LOST,
    "result_twice",
    "result_before_answer",
    "answer_lost_after_paying",
    "queue_timeout_then_result",
    "insufficient_float",
    "duplicate_answer",
    "spike_arrest",
    "oauth_token_dies",
    "html_answer",
    "mifos_409_lock",
    "mifos_409_conflict",
    "mifos_425",
    "mifos_425_for_ever",
    "mifos_500_after_posting",
    "mifos_timeout_after_posting",
)
# Where days of a kind begin to be another day than the plain one, whose states before that are died in once.
FROM = {
    **dict.fromkeys(FAULTS, "before send POST /daraja/mpesa/b2c/v3/paymentrequest"),
    **dict.fromkeys(
        (fault for fault in FAULTS if fault.startswith("mifos")), "before send POST /mifos/alpha/fineract-provider/api/v1/loans/*"
    ),
}
# Where a payout passes between the poll and the text: whatever commits there is died at, or stands here.
ON_THE_WAY = ("vault_core/disbursements", "vault_core/postings", "vault_core/outbox", "vault_core/inbox", "vault_pipelines")
OFF_THE_WAY = {
    **dict.fromkeys(ACTS, "test_deaths_at_acts.py"),
    "outbox.calls.offer_again": "makes due what Kafka did not take: without it the same is due after its lease",
    **dict.fromkeys(
        ("outbox.calls.record_failure", "vault_pipelines.streams.edge.Edge._record_failed_calls"),
        "an error of ours that nobody foresaw: what was not counted as a try is claimed again after its lease and fails again",
    ),
    **dict.fromkeys(
        ("inbox.listing.open_body", "inbox.listing.replay_deliveries"),
        "a person reads, or makes due, what is stored: done twice it stands twice in the audit trail, and is applied once",
    ),
    "disbursements.sending_gate.let_claims_end": "writes nothing: it waits for a lock",
    "vault_pipelines.streams.periodic._cut_partitions": "makes empty tables, those that are missing",
}
_LOANS = text("SELECT loan_id, state, reason FROM disbursements WHERE loan_id = ANY(:loans) ORDER BY loan_id")
_CHARGES = text(
    """
    SELECT d.loan_id, (SELECT count(*) FROM ledger_transactions t WHERE t.key = 'charges:' || d.id) AS captured,
           (SELECT count(*) FROM charge_lines c WHERE c.subject_id = d.id AND c.charged_at IS NULL) AS uncharged
    FROM disbursements d WHERE d.loan_id = ANY(:loans) ORDER BY d.loan_id
    """
)
_BALANCES = text("SELECT code, sum(balance_cents)::bigint AS cents FROM ledger_accounts GROUP BY code")
_STUCK = text(
    """
    SELECT 'call ' || kind || ' ' || state FROM outbox WHERE state <> 'done'
    UNION ALL SELECT 'delivery ' || purpose || ' ' || state || ' ' || coalesce(cause, '') FROM inbound_events WHERE state <> 'processed'
    UNION ALL SELECT 'held ' || code || ' ' || held_cents FROM ledger_accounts WHERE held_cents <> 0
    UNION ALL SELECT 'message ' || template || ' ' || state FROM messages WHERE state NOT IN ('accepted', 'unknown')
    UNION ALL SELECT 'posting ' || state FROM core_postings WHERE state <> 'posted'
    """
)
_OPEN_CASES = text(
    "SELECT kind || ' ' || subject || ' ' || evidence FROM cases WHERE closed_at IS NULL AND kind <> 'sms_unknown'"
)


@dataclass
class CrashDay:
    """One lender's day with many deaths in it."""

    environment: dict[str, str]
    owner_url: str
    sandbox: str
    receiver: ReceiverProcess
    hook_token: str
    clock_file: Path
    passed: timedelta = timedelta(seconds=10)
    loans: dict[int, list[int]] = field(default_factory=dict)  # what each is to be paid, in cents

    def approve(self, kind: str) -> list[int]:
        """A loan of a new person. `kind`: what goes wrong outside on its way, or one of WAYS. A token is due, too."""
        number = len(self.loans) + 1
        self.loans[number] = [600_000, 900_000] if kind == TRANCHES else [1_500_000]
        terms: dict[str, Any] = {}
        if kind == TRANCHES:
            terms = {"product": 2, "tranches": [{"principal_cents": cents} for cents in self.loans[number]]}
        self.control("setup", {"mifos": {"alpha": {"clients": [client(number)], "loans": [loan(number, **terms)]}}})
        unit = f"loan:{number}" if kind.startswith("mifos") else f"2547{number:08d}"
        self.control("faults", {kind: {"units": [unit]}} if kind in FAULTS else {})
        if kind == HOOK:
            said = {"entityName": "LOAN", "actionName": "APPROVE", "response": {"loanId": number}}
            httpx.post(self.hook_url, json=said, timeout=10, verify=False).raise_for_status()  # noqa: S501 - plain HTTP
        self.sql("DELETE FROM access_tokens")
        self.sql("DELETE FROM mifos_calendars")  # read once a day: each loan is to lead there
        return [number]

    def work(self, wish: str = "", *, patient: bool = True, states: Path | None = None) -> Ended:
        ended = work_in_child(
            self.environment,
            self.sandbox,
            self.passed,
            wish=wish,
            patient=patient,
            states=states,
            clock_file=self.clock_file,
        )
        self.passed = ended.passed + timedelta(seconds=5)
        return ended

    def passings(self, file: Path, kind: str) -> Counter[str]:
        """How often a loan of this kind passes each fault point, in the order of the first time."""
        loans = self.approve(kind)
        assert not self.work(f"write to {file}").killed
        self.check(loans, at="no death")
        return Counter(file.read_text().splitlines())

    def states(self, file: Path, kind: str) -> list[str]:
        """A wish to die in each state that a loan of this kind passes, from where its day is another one than a plain loan's."""
        loans = self.approve(kind)
        assert not self.work(states=file).killed
        self.check(loans, at="no death")
        passings: Counter[str] = Counter()
        begun, wishes = kind not in FROM, dict[str, tuple[int, str]]()
        for state, point in (line.split("\t") for line in file.read_text().splitlines()):
            passings[point] += 1
            begun = begun or point == FROM.get(kind)
            if begun:  # of the points of one state the one that is passed the fewest times: the surest to be met again
                wishes[state] = min(wishes.get(state, (99, "")), (passings[point], f"die at {point} #{passings[point]}"))
        return [wish for _, wish in wishes.values()]

    @property
    def hook_url(self) -> str:
        return f"{self.receiver.url}/i/{self.hook_token}"

    def receiver_died(self) -> bool:
        """Whether the receiver's worker process has ended by itself; what is left of the receiver is ended, too."""
        died = "SIGKILL" in self.receiver.log_file.read_text() or self.receiver.process.poll() is not None
        self.receiver.stop()
        return died

    def sql(self, statement: str) -> int:
        """The number that the statement gives, or of the rows it changes."""
        engine = create_engine(self.owner_url)
        with engine.begin() as connection:
            done = connection.execute(text(statement))
            number: int = done.scalar_one() if done.returns_rows else done.rowcount
        engine.dispose()
        return number

    def check(self, loans: list[int], *, at: str) -> None:
        """The bank paid, Mifos X posted and the wallet was charged each of `loans` once, and nothing is left over."""
        truth = truth_of(self.sandbox)
        code = truth["mpesa"]["short_codes"][SHORT_CODE]
        paid = {
            number: [payment["amount_cents"] for payment in code["b2c"] if payment["phone"] == f"2547{number:08d}"]
            for number in loans
        }
        wanted = {number: self.loans[number] for number in loans}
        assert paid == wanted, f"paid after {at}"
        posted = {
            number: [
                each["amount_cents"]
                for each in truth["mifos"]["alpha"]["loans"][str(number)]["transactions"]
                if each["kind"] == "disbursement" and not each["reversed"]
            ]
            for number in loans
        }
        assert posted == wanted, f"posted in Mifos X after {at}"
        texts = Counter(message["sms_id"] for user in truth["sms"]["users"].values() for message in user["messages"])
        assert set(texts.values()) <= {1}, f"a text was sent twice after {at}"
        engine = create_engine(self.owner_url)
        with engine.connect() as connection:
            states = connection.execute(_LOANS, {"loans": loans}).all()
            assert Counter(row.loan_id for row in states) == {number: len(parts) for number, parts in wanted.items()}
            assert {row.state for row in states} == {"disbursed"}, f"after {at}: {states}"
            charges = connection.execute(_CHARGES, {"loans": loans}).all()
            assert {(row.captured, row.uncharged) for row in charges} == {(1, 0)}, f"charges after {at}: {charges}"
            assert connection.execute(_STUCK).scalars().all() == [], f"left over after {at}"
            assert connection.execute(_OPEN_CASES).scalars().all() == [], f"for a person after {at}"
        engine.dispose()

    def prove(self) -> None:
        """The books prove themselves, and their float is what left the bank's."""
        engine = open_sync_engine(self.environment["VAULT_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))
        assert verify_ledger(engine) == []
        with engine.connect() as connection:
            ours = {row.code: row.cents for row in connection.execute(_BALANCES)}
        engine.dispose()
        paid = sum(payment["amount_cents"] for payment in truth_of(self.sandbox)["mpesa"]["short_codes"][SHORT_CODE]["b2c"])
        assert (ours["b2c_float"], ours["loan_book"], ours.get("disbursed_unposted", 0)) == (-paid, paid, 0)

    def control(self, what: str, body: dict[str, Any]) -> None:
        httpx.post(f"{self.sandbox}/control/{what}", json=body, timeout=10, verify=False).raise_for_status()  # noqa: S501 - plain HTTP


@pytest.fixture
def crash_day(owner_url: str, tmp_path: Path) -> Iterator[CrashDay]:
    with start_sandbox() as sandbox:
        environment = {
            **PACE,
            "VAULT_DATABASE_URL": app_url(owner_url),
            "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9",
            "VAULT_MASTER_KEY": f"test:{KEY}",
        }
        token = asyncio.run(open_lender(environment, sandbox))
        at_its_time = {**os.environ, **environment, CLOCK_FILE: str(clock_file := tmp_path / "passed")}
        receiver = ReceiverProcess(at_its_time, tmp_path / "receiver.log", MOVED_RECEIVER)
        try:
            yield CrashDay({**environment, "VAULT_PUBLIC_URL": receiver.url}, owner_url, sandbox, receiver, token, clock_file)
        finally:
            receiver.stop()


async def open_lender(environment: dict[str, str], sandbox: str) -> str:
    """Registers the lender; returns the token of its hook's URL."""
    async with open_runtime(read_settings(environment)) as runtime:
        setup = world("alpha", SHORT_CODE, [], [])
        setup["mifos"]["alpha"]["products"].append(
            {"id": 2, "name": "Shamba Tranche Loan", "short_name": "SHAM", "multi_disburse": True}
        )
        setup["settings"] |= {"in_process_ms": 20, "hang_ms": 20, "delivery_retry_ms": 20}
        (await runtime.http.post(f"{sandbox}/control/setup", json=setup)).raise_for_status()
        partner = await register_partner(runtime, parse_partner_file(lender_file(sandbox, "alpha", SHORT_CODE)), actor="ops:test")
        limits = Limits(least=Money.shillings(500), most=Money.shillings(200_000), daily=None)
        for product in ("1", "2"):
            await enable_product(runtime, partner, product, limits, actor="ops:test")
        await record_topup(runtime, partner.id, Money.shillings(50_000), "T1", "ops:test", "test")
        return callback_token(runtime.sealer, partner.id, CallbackPurpose.MIFOS_HOOK)


@pytest.mark.timeout(600)  # a minute on two idle cores
def test_a_worker_dies_at_every_point_in_turn_and_the_day_ends_right(crash_day: CrashDay, tmp_path: Path) -> None:
    way_of: dict[str, str] = {}
    for way in WAYS:
        way_of |= dict.fromkeys(crash_day.passings(tmp_path / way, way), way)  # the plainest way that leads there
    assert {point.split(" ")[0] for point in way_of} == {"before", "after"}
    assert len(way_of) > 80, "commits, sends, receives and publications of the whole way"
    missed = []
    for point, kind in way_of.items():
        crash_day.approve(kind)
        if crash_day.work(f"die at {point}", patient=False).killed:  # the next one finds what this one left
            continue
        crash_day.approve(kind)  # what it waited for was not due in two rounds: another loan has a whole day to lead there
        if not crash_day.work(f"die at {point}").killed:
            missed.append(point)
    assert not crash_day.work().killed
    crash_day.check(list(crash_day.loans), at="a death at each point")
    crash_day.prove()
    assert not missed, "nobody died there"
    died_at = {point.partition(" commit ")[2] for point in way_of if " commit " in point}
    never = commits_in(*ON_THE_WAY) - died_at
    assert not never - set(OFF_THE_WAY), f"nobody dies at these commits: {sorted(never - set(OFF_THE_WAY))}"
    assert set(OFF_THE_WAY) <= never, f"these are on a payout's way: {sorted(set(OFF_THE_WAY) - never)}"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_receiver_that_dies_around_its_commit_loses_no_payment(crash_day: CrashDay, moment: str) -> None:
    crash_day.control("settings", {"delivery_tries": 1})  # M-Pesa does not repeat a result
    crash_day.receiver.stop()
    crash_day.receiver.environment["VAULT_FAULT_POINT"] = f"die at {moment} commit inbox.receiving.DeliveryStore.store"
    crash_day.receiver.start()
    loans = crash_day.approve(PLAIN)
    crash_day.work(patient=False)
    assert crash_day.receiver_died()
    del crash_day.receiver.environment["VAULT_FAULT_POINT"]
    crash_day.receiver.start()
    assert not crash_day.work().killed
    asked = crash_day.sql("SELECT count(*) FROM status_queries")
    crash_day.check(loans, at=f"the receiver's death {moment} its commit")
    crash_day.prove()
    assert (asked > 0) is (moment == "before"), "what was stored is found by the sweep, what was not by a question"


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [PLAIN, HOOK, TRANCHES, *FAULTS])
def test_a_death_in_every_state_of_a_day_under_any_fault(crash_day: CrashDay, tmp_path: Path, kind: str) -> None:
    wishes = crash_day.states(tmp_path / "states", kind)
    killed = 0
    for number, wish in enumerate(wishes):
        loans = crash_day.approve(kind)
        died = [crash_day.work(wish).killed for _ in range(1 + number % 2)]
        killed += died[0]
        assert not crash_day.work().killed
        crash_day.check(loans, at=f"{died} deaths: {wish}")
    crash_day.prove()
    # The outside answers in its own time, so that a day is not met again to the last of its states.
    assert killed >= 0.9 * len(wishes) > 0, f"{killed} of {len(wishes)} died"
