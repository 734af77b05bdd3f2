"""What customers, cashiers and ops do about payments of the small lenders that do not simply find their account."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text

from local_stack.demo.acts import ACTOR, COLLEAGUE, Outside
from local_stack.demo.day_plan import PlannedPartner
from local_stack.demo.officer import Officer
from local_stack.demo.small_lenders import Payer, paying_phone, repaid_loans
from local_stack.demo.waiting_for import until
from local_stack.demo.world import account_no
from vault_core.clock import business_day
from vault_core.collections.assigning import Wish, approve, assign, reverse
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

_NOBODYS = "MAMA MBOGA"  # what a payer typed; ops find out whose it is
_MISTAKE = "MAJI YA JUMA"  # another one, who meant somebody else's pay bill
_LARGE, _SMALL = 60_000, 700  # shillings; one person's word is not enough for the large one
_RECEIVER_KNOWS_AFTER = timedelta(seconds=8)
_TOO_MUCH = 45_000  # on a loan that owes less

_PAYMENT = text("SELECT state FROM collections WHERE short_code = :code AND receipt = :receipt")
_PROMPT = text("SELECT state FROM stk_requests WHERE id = :id")
_AT_COUNTER = text("SELECT id FROM core_payments WHERE partner_id = :partner LIMIT 1")
# The receiver reads how far the copy of the accounts is every few seconds.
_MIRRORED = text("SELECT partner_id FROM mifos_mirrors WHERE partner_id = :partner AND renewed_at < :before")
_STK_ENDS = {Payer.PROMPTED: "paid", Payer.DECLINES: "declined", Payer.NEVER_ANSWERS: "expired"}


@dataclass(frozen=True, slots=True)
class Cashiers:
    """Everybody. Each act raises Unreachable when what it waits for does not come in a quarter of an hour."""

    runtime: Runtime
    connections: Connections
    outside: Outside
    sandbox_url: str
    partners: Mapping[str, tuple[Partner, PlannedPartner]]

    def at_troubled(self, name: str) -> list[Coroutine[Any, Any, None]]:
        """Everything that happens to payments of the lender whose loans have each their trouble."""
        return [
            self.assign_by_two(name),
            self.give_back(name),
            self.miss_a_confirmation(name),
            self.pay_at_the_counter(name),
            self.pay_too_much(name),
            *(self.prompt(name, payer) for payer in _STK_ENDS),
        ]

    async def assign_by_two(self, name: str) -> None:
        """A large payment has nobody's reference: one person names the account and has it remembered, a second one agrees. The
        same reference then finds it.
        """  # noqa: D205 - one sentence each
        partner, planned = self.partners[name]
        receipt = await self._pay(planned, Payer.UNKNOWN, _LARGE, _NOBODYS)
        await self._in_state(partner, receipt, "suspense")
        account = f"savings:{account_no(planned, 'savings', 1)}"
        wish = Wish(receipt, "the lender knows the payer", account=account, remember=True)
        await assign(self.runtime, self.connections, wish, actor=ACTOR)
        await approve(self.runtime, self.connections, receipt, actor=COLLEAGUE)
        await self._in_state(partner, receipt, "posted")
        again = await self._pay(planned, Payer.UNKNOWN, _SMALL, _NOBODYS)
        await self._in_state(partner, again, "posted")

    async def give_back(self, name: str) -> None:
        """A payment was meant for another pay bill: two persons have M-Pesa give it back."""
        partner, planned = self.partners[name]
        receipt = await self._pay(planned, Payer.MISTAKEN, _SMALL, _MISTAKE)
        await self._in_state(partner, receipt, "suspense")
        await reverse(self.runtime, Wish(receipt, "meant for the water company"), actor=ACTOR)
        await approve(self.runtime, self.connections, receipt, actor=COLLEAGUE)
        await self._in_state(partner, receipt, "reversed")

    async def miss_a_confirmation(self, name: str) -> None:
        """The confirmation of a payment never comes: a pull finds it."""
        partner, planned = self.partners[name]
        receipt = await self._pay(planned, Payer.UNCONFIRMED, _SMALL, self._loan_no(planned, 1))
        await self._in_state(partner, receipt, "posted")

    async def pay_at_the_counter(self, name: str) -> None:
        """A client pays cash, and the officer books it in Mifos X: its hook tells, it is recorded and is no money of M-Pesa's."""
        partner, planned = self.partners[name]
        officer = Officer(self.sandbox_url, planned.host, self.runtime.http)
        await officer.take_cash(repaid_loans(planned)[2].number, _SMALL, business_day(self.runtime.clock.now()))
        await until(lambda: self._one(_AT_COUNTER, partner=partner.id), f"the cash payment of {name} to be recorded")

    async def pay_too_much(self, name: str) -> None:
        """A client pays more than the loan owes: the rest goes to the savings account."""
        partner, planned = self.partners[name]
        receipt = await self._pay(planned, Payer.GENEROUS, _TOO_MUCH, self._loan_no(planned, 0))
        await self._in_state(partner, receipt, "posted")

    async def prompt(self, name: str, payer: Payer) -> None:
        """A customer is prompted to pay, and pays, declines, or is never heard of."""
        partner, planned = self.partners[name]
        wish = StkWish(
            partner_id=partner.id,
            key=f"demo-{payer}",
            amount=Money.shillings(_SMALL),
            phone=paying_phone(planned, payer),
            account_reference=self._loan_no(planned, 1),
            description="Repayment",
            asked_by=ACTOR,
        )
        request, _ = await ask_to_pay(self.runtime, self.connections, wish)

        async def look() -> bool:
            row = await self._one(_PROMPT, id=request.id)
            return row is not None and row.state == _STK_ENDS[payer]

        await until(look, f"the prompt of {name} to be {_STK_ENDS[payer]}")

    async def be_refused(self, name: str) -> None:
        """A payer types what is no account of the lender: M-Pesa asks us, and does not take the payment."""
        partner, planned = self.partners[name]

        async def known() -> Row[Any] | None:
            return await self._one(_MIRRORED, partner=partner.id, before=self.runtime.clock.now() - _RECEIVER_KNOWS_AFTER)

        await until(known, f"the accounts of {name} to be known")
        order = self._order(planned, Payer.UNKNOWN, _SMALL, _NOBODYS)
        await self.outside.pull("c2b", order)

    async def _pay(self, planned: PlannedPartner, payer: Payer, shillings: int, reference: str) -> str:
        receipt: str = (await self.outside.pull("c2b", self._order(planned, payer, shillings, reference)))["receipt"]
        return receipt

    def _order(self, planned: PlannedPartner, payer: Payer, shillings: int, reference: str) -> dict[str, Any]:
        return {
            "short_code": planned.c2b_short_code,
            "phone": paying_phone(planned, payer),
            "amount_cents": shillings * 100,
            "bill_reference": reference,
        }

    def _loan_no(self, planned: PlannedPartner, place: int) -> str:
        return account_no(planned, "loan", repaid_loans(planned)[place].number)

    async def _in_state(self, partner: Partner, receipt: str, state: str) -> None:
        async def look() -> bool:
            row = await self._one(_PAYMENT, code=partner.c2b_short_code, receipt=receipt)
            return row is not None and row.state == state

        await until(look, f"payment {receipt} of {partner.name} to be {state}")

    async def _one(self, query: Any, **values: object) -> Row[Any] | None:
        async with self.runtime.engine.connect() as connection:
            return (await connection.execute(query, values)).one_or_none()
