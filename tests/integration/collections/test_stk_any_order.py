"""Any order and repetition of a prompt's callback, M-Pesa's answers to questions and the confirmation books its money exactly once
and ends the request as all of them together say, whichever of them are lost.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.conftest import StillClock
from tests.integration.collections.stk_till import store_delivery
from vault_core.clients.daraja_stk import Fate, StkAck, StkFate
from vault_core.clock import NAIROBI
from vault_core.collections.confirmations import handle_confirmations
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.collections.stk_following import follow_prompts
from vault_core.collections.stk_requests import load_request
from vault_core.collections.stk_results import handle_stk_results
from vault_core.collections.stk_verdict import StkState
from vault_core.database import open_async_engine
from vault_core.identifiers import id_maker
from vault_core.money import Money
from vault_core.outcome import Accepted, Unknown
from vault_core.runtime import Runtime
from vault_core.settings import Pace

PHONE, PAY_BILL = "254712345126", "600100"
_ADD = text(
    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,"
    " c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
    " VALUES (:id, 'alpha', 'Alpha', '', 'default', 'mifos', '', 'api', '600101', '600100', '', 'sim', 'L', :now, :now)"
)
_COUNT = text("SELECT count(*) AS rows, coalesce(sum(amount_cents), 0) AS cents FROM collections WHERE receipt = :receipt")
_LEDGER = text(
    "SELECT coalesce(sum(amount_cents), 0) AS cents FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id"
    " WHERE a.code = 'c2b_float'"
)
_CASES = text("SELECT kind FROM cases WHERE closed_at IS NULL AND subject = :subject")
_REQUEST = text("SELECT id FROM stk_requests WHERE idempotency_key = :key")

# What may be told of a prompt that was paid, and of one that was not. "bare" names no receipt, "no amount" names one.
PAID = ("callback", "bare callback", "callback without amount", "confirmation", "pending", "query: paid", "query: failed")
NOT_PAID = ("declined callback", "pending", "query: failed")
STORIES = st.tuples(
    st.sampled_from(["acknowledged", "answer lost", "callback before the answer"]),
    st.sampled_from([PAID, NOT_PAID]).flatmap(lambda words: st.lists(st.sampled_from(words), max_size=7)),
)


@dataclass
class Mpesa:
    """Answers what a story says, and keeps what it was asked."""

    ack: Accepted[StkAck] | Unknown
    before_answering: Callable[[], Awaitable[None]] | None = None
    fate: StkFate = field(default_factory=lambda: StkFate(Fate.PENDING, "4999", ""))
    answered: list[str] = field(default_factory=list)
    prompts: int = 0
    can_prompt: bool = True

    async def prompt(self, _prompt: Any) -> Accepted[StkAck] | Unknown:
        self.prompts += 1
        if self.before_answering is not None:
            await self.before_answering()
        return self.ack

    async def query_prompt(self, _question: Any) -> Accepted[StkFate]:
        self.answered.append(self.fate.code)
        return Accepted(self.fate)


class Story:
    """One prompt, told of in one order. It is the connections of the services too."""

    def __init__(self, runtime: Runtime, partner_id: UUID, number: int) -> None:
        self.runtime, self.partner_id = runtime, partner_id
        self.receipt, self.checkout, self.reference = f"SKR{number:07d}", f"ws_CO_{number}", f"L{number:07d}"
        self.mpesa = Mpesa(Accepted(StkAck("m", self.checkout)))
        self.paid_at = runtime.clock.now()
        self.told: set[str] = set()

    async def daraja(self, _partner_id: UUID) -> Mpesa:
        return self.mpesa

    async def play(self, beginning: str, words: list[str]) -> None:
        wish = StkWish(self.partner_id, self.reference, Money.shillings(500), PHONE, self.reference, "loan", "ops:test")
        if beginning == "answer lost":
            self.mpesa.ack = Unknown("no whole answer within 30 s")
        if beginning == "callback before the answer" and words:
            first, words = words[0], words[1:]
            self.mpesa.before_answering = lambda: self.tell(first)
        await ask_to_pay(self.runtime, self, wish)
        for word in words:
            await self.tell(word)
        self.mpesa.fate = StkFate(Fate.PENDING, "4999", "")
        for later in ({"seconds": 76}, {"minutes": 16}, {"hours": 1}, {"hours": 2}):
            await self.look(**later)
        _, is_new = await ask_to_pay(self.runtime, self, wish)
        assert (is_new, self.mpesa.prompts) == (False, 1)

    async def tell(self, word: str) -> None:
        fates = {"query: paid": (Fate.PAID, "0"), "query: failed": (Fate.DECLINED, "1037"), "pending": (Fate.PENDING, "4999")}
        if word in fates:
            self.mpesa.fate = StkFate(*fates[word], "said")
            await self.look(seconds=76)
            return
        self.told.add(word)
        [row] = await self.rows(_REQUEST, key=self.reference)
        purpose, body = (
            ("c2b_confirmation", self.confirmation()) if word == "confirmation" else ("stk_result", self.callback(word))
        )
        event_id = await store_delivery(self.runtime, self.partner_id, purpose, body, row.id.hex)
        handler = handle_confirmations if word == "confirmation" else handle_stk_results
        await handler(self.runtime, self, [event_id])

    async def look(self, **later: float) -> None:
        self.runtime.clock.pass_time(**later)
        await follow_prompts(self.runtime, self)

    def callback(self, word: str) -> bytes:
        said = {"MerchantRequestID": "m", "CheckoutRequestID": self.checkout, "ResultCode": 0, "ResultDesc": "d"}
        if word == "declined callback":
            return json.dumps({"Body": {"stkCallback": said | {"ResultCode": 1032}}}).encode()
        items = {"Amount": 500.0, "MpesaReceiptNumber": self.receipt, "PhoneNumber": int(PHONE)}
        if word == "bare callback":
            del items["MpesaReceiptNumber"]
        if word == "callback without amount":
            del items["Amount"]
        said["CallbackMetadata"] = {"Item": [{"Name": name, "Value": value} for name, value in items.items()]}
        return json.dumps({"Body": {"stkCallback": said}}).encode()

    def confirmation(self) -> bytes:
        return json.dumps(
            {
                "TransactionType": "Pay Bill",
                "TransID": self.receipt,
                "TransTime": f"{self.paid_at.astimezone(NAIROBI):%Y%m%d%H%M%S}",
                "TransAmount": "500.00",
                "BusinessShortCode": PAY_BILL,
                "BillRefNumber": self.reference.lower(),
                "OrgAccountBalance": "",
                "MSISDN": "2547 ***** 126",
                "FirstName": "JANE",
            }
        ).encode()

    def expected(self) -> tuple[StkState, list[str]]:
        """How it must end, and the cases that are left."""
        ends = [code for code in self.mpesa.answered if code != "4999"]
        if "callback" in self.told or ("confirmation" in self.told and "declined callback" not in self.told):
            return StkState.PAID, []
        if "declined callback" in self.told:
            return StkState.DECLINED, []
        if self.told or ends[:1] == ["0"]:  # a success without its money
            return StkState.EXPIRED, ["stk_paid_unbooked"]
        return (StkState.DECLINED if ends else StkState.EXPIRED), []

    async def check(self) -> None:
        [row] = await self.rows(_REQUEST, key=self.reference)
        async with self.runtime.engine.connect() as connection:
            request = await load_request(connection, self.runtime, self.partner_id, row.id)
        cases = [case.kind for case in await self.rows(_CASES, subject=f"stk {row.id}")]
        assert (request.state, cases) == self.expected(), (self.told, self.mpesa.answered)
        assert request.receipt == (self.receipt if request.state is StkState.PAID else None)
        moved = bool(self.told & {"callback", "confirmation"})
        [booked] = await self.rows(_COUNT, receipt=self.receipt)
        assert (booked.rows, booked.cents) == ((1, 500_00) if moved else (0, 0))

    async def rows(self, statement: Any, **asked: Any) -> list[Any]:
        async with self.runtime.engine.connect() as connection:
            return list((await connection.execute(statement, asked)).all())


async def open_world(database_url: str, sealer: Any) -> tuple[Runtime, UUID]:
    clock = StillClock()
    runtime = Runtime(
        engine=open_async_engine(database_url),
        clock=clock,
        new_id=id_maker(clock),
        chance=random.Random(1),
        sealer=sealer,
        http=httpx.AsyncClient(),
        pace=Pace(),
        public_url="http://127.0.0.1:1",
    )
    partner_id = runtime.new_id()
    async with runtime.engine.begin() as connection:
        await connection.execute(_ADD, {"id": partner_id, "now": clock.now()})
    return runtime, partner_id


def test_any_order_and_repetition_books_once_and_ends_the_request_right(database_url, sealer):
    stories: list[Story] = []
    with asyncio.Runner() as runner:
        runtime, partner_id = runner.run(open_world(database_url, sealer))

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(STORIES)
        def play(told: tuple[str, list[str]]) -> None:
            story = Story(runtime, partner_id, len(stories))
            stories.append(story)
            runner.run(story.play(*told))
            runner.run(story.check())

        play()
        moved = sum(bool(story.told & {"callback", "confirmation"}) for story in stories)
        [ledger] = runner.run(stories[0].rows(_LEDGER))
        assert ledger.cents == 500_00 * moved
        runner.run(runtime.http.aclose())
        runner.run(runtime.engine.dispose())
