"""One lender's pay bill on a day whose worker processes are killed (tests/integration/disbursements/crash_day.py), and its people.

Each way of money has what customers do at the sandbox and what people do about it. A person looks, does what is still to be done,
and does it again when their process died: the acts stand at the beginning of each round of a worker.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import create_engine, text

from tests.integration.callback_receiver.conftest import ReceiverProcess
from tests.integration.collections.conftest import PAY_BILL, described
from tests.integration.collections.conftest import world as office_world
from tests.integration.collections.feeds import paid, statement_of
from tests.integration.collections.office import ANNE, BEN
from tests.integration.disbursements.conftest import HANDLERS
from tests.integration.disbursements.crash_day import PACE, Duty, Ended, truth_of, work_in_child
from vault_core.collections.assigning import Wish, approve, assign, move, reverse
from vault_core.collections.confirmations import handle_confirmations
from vault_core.collections.proof import collections_findings
from vault_core.collections.pull_registration import register_pull
from vault_core.collections.statement_import import import_statement
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.collections.stk_results import handle_stk_results
from vault_core.database import open_sync_engine
from vault_core.errors import Conflict, NotFound
from vault_core.ledger.verification import verify_ledger
from vault_core.money import Money
from vault_core.partners.collection_settings import set_collection_settings
from vault_core.partners.connections import Connections
from vault_core.partners.credentials import CredentialPurpose, replace_credential
from vault_core.partners.partner import load_partner
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.registration import register_partner
from vault_core.partners.url_registration import register_c2b_urls
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import read_settings

PLAIN, SHARED, ASSIGNED, MOVED, GIVEN_BACK = "plain", "shared", "assigned", "moved", "given_back"
PROMPTED, PULLED, STATED = "prompted", "pulled", "stated"
WAYS = (PLAIN, SHARED, ASSIGNED, MOVED, GIVEN_BACK, PROMPTED, PULLED, STATED)
# What goes wrong outside on a way, and of what it is a fault: the customer's phone, the loan, or whatever comes next.
FAULTS = {
    PLAIN: ("c2b_confirmation_twice", "mifos_409_lock", "mifos_500_after_posting", "mifos_timeout_after_posting"),
    PULLED: ("pull_row_doubled", "pull_odd_keys"),
    PROMPTED: ("stk_answer_lost", "stk_callback_lost", "stk_callback_twice", "stk_callback_without_receipt"),
    GIVEN_BACK: ("reversal_answer_lost", "reversal_result_lost", "reversal_result_twice", "reversal_timeout_then_result"),
}
ENVIRONMENT = PACE | {
    "VAULT_PULL_EVERY": "60",
    "VAULT_STK_QUERY_AFTER": "10",
    "VAULT_STK_EXPIRE_AFTER": "300",
    "VAULT_CONFIRMATION_LATE_AFTER": "1",
}
CENTS = 300_00
_JOBS = ("relay calls", "sweep inbox", "follow prompts to pay", "pull payments", "send reversals", "ask for what was away")
_PASSKEY = "planted-passkey"
_SECOND = 500_000  # a client's second loan has this number more
_LEFT = """
    SELECT (SELECT count(*) FROM collections WHERE state NOT IN ('posted', 'reversed'))
         + (SELECT count(*) FROM unnest(CAST(ARRAY[{receipts}] AS text[])) AS told(receipt)
            WHERE NOT EXISTS (SELECT FROM collections c WHERE c.receipt = told.receipt))
         + (SELECT count(*) FROM collections WHERE (receipt, account_id) IN (SELECT * FROM (VALUES ('', 0) {wrong}) AS wrong))
         + (SELECT count(*) FROM outbox WHERE state = 'pending')
         + (SELECT count(*) FROM inbound_events WHERE state = 'stored')
         + (SELECT count(*) FROM stk_requests WHERE state IN ('prompting', 'prompted', 'unknown'))
"""
_STUCK = text(
    """
    SELECT 'call ' || kind || ' ' || state FROM outbox WHERE state <> 'done'
    UNION ALL SELECT 'delivery ' || purpose || ' ' || state || ' ' || coalesce(cause, '') FROM inbound_events WHERE state <> 'processed'
    UNION ALL SELECT 'message ' || template || ' ' || state FROM messages WHERE state NOT IN ('accepted', 'unknown')
    UNION ALL SELECT 'posting ' || state FROM core_postings WHERE state NOT IN ('posted', 'undone')
    UNION ALL SELECT 'decision ' || kind || ' ' || state FROM collection_decisions WHERE state <> 'done'
    UNION ALL SELECT 'reversal ' || state FROM reversal_requests WHERE state <> 'done'
    UNION ALL SELECT 'case ' || kind || ' ' || subject || ' ' || evidence FROM cases
              WHERE closed_at IS NULL AND kind NOT IN ('sms_unknown', 'feed_missing_confirmations')
    """
)
_BOOKED = text("SELECT receipt, amount_cents, state FROM collections")
_UNKNOWN_TEXTS = text(
    "SELECT split_part(business_key, ':', 3) FROM messages WHERE business_key LIKE 'receipt:%' AND state = 'unknown'"
)
_LEDGER = text(
    "SELECT a.code, sum(e.amount_cents)::bigint AS cents FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id"
    " WHERE a.partner_id IS NOT NULL GROUP BY a.code"
)
_AT = text("SELECT account_id FROM collections WHERE receipt = :receipt")

Act = Callable[[Runtime, Connections], Awaitable[Any]]


@dataclass
class CollectionDay:
    """One lender's day with many deaths in it."""

    environment: dict[str, str]
    owner_url: str
    sandbox: str
    receiver: ReceiverProcess
    passed: timedelta = timedelta(seconds=10)
    customers: int = 0
    acts: list[Act] = field(default_factory=list)  # of people, each safe to repeat
    receipts: list[str] = field(default_factory=list)  # of what customers paid by hand
    ends: dict[str, frozenset[tuple[str, int]]] = field(
        default_factory=dict
    )  # by reference: where it stands; nowhere: given back
    wrong: dict[str, int] = field(default_factory=dict)  # by receipt: the loan that it must leave
    pulls: bool = True

    def begin(self, way: str, fault: str | None = None) -> None:
        """A new customer whose money goes this way, perhaps with a fault of the outside on it. A token is due, too."""
        self.customers += 1
        number = 1000 + self.customers
        second = number + _SECOND
        person = {"id": number, "first_name": "Jane", "last_name": "Wanjiku", "mobile_no": f"07{number:08d}"}
        owed = {"principal_cents": 100_00 if way == SHARED else 9_000_00, "product": 1, "status": 300, "client": number}
        accounts = {"loans": [{"id": number, **owed}, {"id": second, **owed}], "savings": [{"id": second, "client": number}]}
        self.control("setup", {"mifos": {"alpha": {"clients": [person], **accounts}}})
        owner = create_engine(self.owner_url)
        with owner.begin() as connection:
            connection.execute(text("DELETE FROM access_tokens"))
        owner.dispose()
        self.pulls = way != STATED
        phone, loan = {"units": [f"2547{number:08d}"]}, {"units": [f"loan:{number}"]}
        switches: dict[str, Any] = dict.fromkeys(("c2b_confirmation_lost", *sum(FAULTS.values(), ())))
        if way in (PULLED, STATED):
            switches["c2b_confirmation_lost"] = phone
        if fault is not None:
            switches[fault] = loan if fault.startswith("mifos") else {"rate": 1.0} if way in (GIVEN_BACK, PULLED) else phone
        self.control("faults", switches)
        known, named = f"{number:09d}", f"NOBODY{number}"
        at_first, at_last = frozenset({("loans", number)}), frozenset({("loans", second)})
        if way == PROMPTED:
            self.ends[known] = at_first
            self.acts.append(_asks(number, known))
            return
        receipt, moment = self._pays(number, named if way in (ASSIGNED, GIVEN_BACK) else known)
        match way:
            case "shared":
                self.ends[known] = frozenset({("loans", number), ("savings", second)})
            case "assigned":
                self.ends[named] = at_last
                self.acts.append(_assigns(receipt, f"{second:09d}"))
            case "moved":
                self.ends[known], self.wrong[receipt] = at_last, number
                self.acts.append(_moves(receipt, number, f"{second:09d}"))
            case "given_back":
                self.ends[named] = frozenset()
                self.acts.append(_gives_back(receipt))
            case _:
                self.ends[known] = at_first
                if way == STATED:
                    self.acts.append(_imports(receipt, moment, known))

    def work(self, wish: str = "", *, patient: bool = True) -> Ended:
        ended = work_in_child(self.environment, self.sandbox, self.passed, wish=wish, patient=patient, duty=self._duty())
        self.passed = ended.passed + timedelta(seconds=5)
        return ended

    def end(self, *, at: str) -> None:
        """What is left is done, and the day is right; people have nothing more to do."""
        assert not self.work().killed
        self.check(at=at)
        self.acts.clear()
        self.receipts.clear()
        self.wrong.clear()

    def check(self, *, at: str) -> None:
        """Every payment that M-Pesa has is booked, posted and texted once, or given back once, and nothing is left over."""
        truth = truth_of(self.sandbox)
        code = truth["mpesa"]["short_codes"][PAY_BILL]
        payments = {one["receipt"]: one for one in code["c2b"]}
        given_back = Counter(one["original"] for one in code["reversals"] if one["result_code"] == "0")
        wanted = {
            receipt: Counter() if self.ends[one["bill_reference"]] else Counter({receipt: 1}) for receipt, one in payments.items()
        }
        assert given_back == sum(wanted.values(), Counter()), f"given back after {at}"
        self._check_postings(truth, payments, at)
        texts = Counter(one["text"] for one in truth["sms"]["users"]["sim"]["messages"])
        assert set(texts.values()) <= {1}, f"a text was sent twice after {at}"
        told = {receipt for receipt in payments if any(receipt in each for each in texts)}
        self._check_books(payments, given_back, told, at)

    def _check_postings(self, truth: Any, payments: dict[str, Any], at: str) -> None:
        standing: dict[str, Counter[tuple[str, int]]] = {receipt: Counter() for receipt in payments}
        for kind in ("loans", "savings"):
            for number, account in truth["mifos"]["alpha"][kind].items():
                for each in account["transactions"]:
                    if each["kind"] in ("repayment", "deposit") and not each["reversed"]:
                        standing[each["receipt"]][kind, int(number)] += each["amount_cents"]
        for receipt, one in payments.items():
            where = self.ends[one["bill_reference"]]
            assert set(standing[receipt]) == where, f"{receipt} stands elsewhere after {at}"
            assert standing[receipt].total() == (one["amount_cents"] if where else 0), f"{receipt} posted otherwise after {at}"

    def _check_books(self, payments: dict[str, Any], given_back: Counter[str], told: set[str], at: str) -> None:
        engine = open_sync_engine(self.environment["VAULT_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            booked = {row.receipt: (row.amount_cents, row.state) for row in connection.execute(_BOOKED)}
            ledger = Counter({row.code: row.cents for row in connection.execute(_LEDGER)})
            unknown = set(connection.execute(_UNKNOWN_TEXTS).scalars())
            stuck = connection.execute(_STUCK).scalars().all()
        wanted = {
            receipt: (one["amount_cents"], "reversed" if receipt in given_back else "posted") for receipt, one in payments.items()
        }
        assert stuck == [], f"left over after {at}"
        assert booked == wanted, f"booked after {at}: {booked.items() ^ wanted.items()}"
        # Of a text whose sending nobody knows the end of there is no second one.
        assert told <= set(payments) - set(given_back) <= told | unknown, f"texts after {at}"
        kept = sum(one["amount_cents"] for receipt, one in payments.items() if receipt not in given_back)
        books = (
            ledger["c2b_float"],
            -ledger["loan_book"] - ledger["savings_book"],
            ledger["suspense"],
            ledger["collected_unposted"],
        )
        assert books == (kept, kept, 0, 0), f"the books after {at}"
        assert verify_ledger(engine) == []
        engine.dispose()
        assert asyncio.run(_findings(self.environment)) == []

    def control(self, what: str, wish: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self.sandbox}/control/{what}", json=wish, timeout=10, verify=False)  # noqa: S501 - plain HTTP
        return answer.raise_for_status().json()

    def _pays(self, number: int, reference: str) -> tuple[str, datetime]:
        wish = {"short_code": PAY_BILL, "phone": f"2547{number:08d}", "amount_cents": CENTS, "bill_reference": reference}
        receipt: str = self.control("c2b", wish)["receipt"]
        self.receipts.append(receipt)
        [moment] = [
            one["at"] for one in truth_of(self.sandbox)["mpesa"]["short_codes"][PAY_BILL]["c2b"] if one["receipt"] == receipt
        ]
        return receipt, datetime.fromisoformat(moment)

    def _duty(self) -> Duty:
        acts = tuple(self.acts)

        async def people(runtime: Runtime, connections: Connections) -> None:
            for act in acts:
                with suppress(Conflict, NotFound):  # it is done, or it is not its time
                    await act(runtime, connections)

        left = _LEFT.format(
            receipts=", ".join(f"'{one}'" for one in self.receipts),
            wrong="".join(f", ('{receipt}', {account})" for receipt, account in self.wrong.items()),
        )
        return Duty(
            first=people,
            jobs=(
                "relay calls",
                "sweep inbox",
                "follow prompts to pay",
                "pull payments",
                "send reversals",
                "ask for what was away",
            ),
            deliveries=HANDLERS | {"c2b_confirmation": handle_confirmations, "stk_result": handle_stk_results},
            left=left,
        )


def _asks(number: int, reference: str) -> Act:
    async def act(runtime: Runtime, connections: Connections) -> None:
        partner = await _partner(runtime)
        wish = StkWish(partner.id, f"k{number}", Money(CENTS), f"07{number:08d}", reference, "loan", "ops:test", "at the counter")
        await ask_to_pay(runtime, connections, wish)

    return act


def _assigns(receipt: str, account: str) -> Act:
    return lambda runtime, connections: assign(runtime, connections, Wish(receipt, "seen", f"loan:{account}"), actor=ANNE)


def _moves(receipt: str, wrong: int, account: str) -> Act:
    async def act(runtime: Runtime, connections: Connections) -> None:
        async with runtime.engine.connect() as connection:
            at = (await connection.execute(_AT, {"receipt": receipt})).scalar_one_or_none()
        if at == wrong:
            await move(runtime, connections, Wish(receipt, "wrong account", f"loan:{account}"), actor=ANNE)

    return act


def _gives_back(receipt: str) -> Act:
    async def act(runtime: Runtime, connections: Connections) -> None:
        with suppress(Conflict):
            await reverse(runtime, Wish(receipt, "paid by mistake"), actor=ANNE)
        await approve(runtime, connections, receipt, actor=BEN)

    return act


def _imports(receipt: str, moment: datetime, reference: str) -> Act:
    async def act(runtime: Runtime, _connections: Connections) -> None:
        one = paid(receipt, moment, CENTS, reference=reference)
        await import_statement(runtime, await _partner(runtime), statement_of(one), actor=ANNE)

    return act


async def _partner(runtime: Runtime) -> Any:
    async with runtime.engine.connect() as connection:
        return await load_partner(connection, name="umoja")


async def _findings(environment: dict[str, str]) -> list[Any]:
    async with open_runtime(read_settings(environment)) as runtime:
        return await collections_findings(runtime.engine)


async def open_pay_bill(environment: dict[str, str], sandbox: str) -> None:
    """Registers the lender with all that tells of its payments."""
    async with open_runtime(read_settings(environment)) as runtime:
        connections = Connections(runtime)
        setup = office_world()
        code = {"name": "Umoja", "passkey": _PASSKEY}
        setup["mpesa"]["short_codes"][PAY_BILL] = code
        setup["settings"] = {"in_process_ms": 20, "hang_ms": 20, "delivery_retry_ms": 20, "result_delay_ms": 5}
        (await runtime.http.post(f"{sandbox}/control/setup", json=setup)).raise_for_status()
        partner = await register_partner(runtime, parse_partner_file(described(sandbox)), actor="ops:test")
        await set_collection_settings(runtime, partner, {"overpayment": "to_savings"}, actor="ops:test")
        await replace_credential(runtime, partner.id, CredentialPurpose.MPESA_PASSKEY, _PASSKEY, actor="ops:test")
        await register_c2b_urls(runtime, connections, partner, actor="ops:test")
        await register_pull(runtime, connections, partner, "0722000000", actor="ops:test")
        await connections.aclose()
