"""What customers, cashiers and ops do about payments of the lender on a running Mifos X, and where each must stand in the end.

Nobody works in a Mifos X that is being restarted: whoever asks it for something holds the lender's `hours` meanwhile.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from local_stack.demo.day_plan import PlannedPartner, loan_of, savings_of
from local_stack.demo.live_lender import LiveLender
from local_stack.demo.live_plan import Place
from local_stack.demo.till import Till
from local_stack.demo.waiting_for import until

_TOO_MUCH, _SOME = 20_000, 700  # shillings
_PHONES = {"loan": "254790000001", "savings": "254790000002"}  # whoever pays to which kind of account

_RECORDED = text(
    """
    SELECT undone_at FROM core_payments
    WHERE partner_id = :partner AND account_kind = :kind AND account_id = :account AND transaction_id = :transaction
    """
)


@dataclass(slots=True)
class LiveTellers:
    """Everybody. `placed`: where each of their payments stands at the end, by receipt: cents by account there."""

    till: Till
    live: LiveLender
    placed: dict[str, dict[tuple[str, int], int]] = field(default_factory=dict)

    def acts(self) -> list[Coroutine[Any, Any, None]]:
        """Everything that happens to the lender's payments beside the day's plain ones."""
        return [
            self.pay_too_much(),
            self.pay_to_a_closed_loan(),
            self.move_a_repayment(),
            self.move_a_deposit(),
            self.find_one_undone(),
            self.pay_at_the_counter(),
            self.prompt("repayment", "loan"),
            self.prompt("deposit", "savings"),
            self.give_back(),
        ]

    async def pay_too_much(self) -> None:
        """More than is owed: all of it to the loan by the lender's policy at first, then the rest to savings by its next one."""
        receipt = await self._pay("loan", loan_of(self._planned, Place.OVERPAID).number, _TOO_MUCH)
        await self._stands(receipt, {("loan", loan_of(self._planned, Place.OVERPAID).number): _TOO_MUCH * 100})
        await self.till.settings(overpayment="to_savings")
        loan = loan_of(self._planned, Place.SHARED).number
        async with self.live.hours:
            owed = int(await self.live.office.owed(loan) * 100)
        receipt = await self._pay("loan", loan, _TOO_MUCH)
        rest = _TOO_MUCH * 100 - owed
        await self._stands(receipt, {("loan", loan): owed, ("savings", savings_of(self._planned, Place.SHARED).number): rest})

    async def pay_to_a_closed_loan(self) -> None:
        """A loan is paid off at the counter; then its client pays again. Ops ask him, and name his other account."""
        closed, right = (loan_of(self._planned, place).number for place in (Place.CLOSED, Place.RIGHT))
        async with self.live.hours:
            cash = await self.live.office.take_cash("loan", closed, await self.live.office.owed(closed), self.live.day)
            await self._recorded("loan", closed, cash)
        receipt = await self._pay("loan", closed, _SOME)
        await self.till.comes_to(receipt, "suspense", "is closed")
        await self.till.assign(receipt, self._named("loan", right), "the client's new loan")
        await self._stands(receipt, {("loan", right): _SOME * 100})

    async def move_a_repayment(self) -> None:
        """A payer got one digit wrong: ops have the repayment undone and posted to the right loan."""
        wrong, right = (loan_of(self._planned, place).number for place in (Place.WRONG, Place.RIGHT))
        receipt = await self._pay("loan", wrong, _SOME + 1)
        await self.till.comes_to(receipt, "posted")
        await self.till.move(receipt, "one digit was wrong", self._named("loan", right))
        await self._stands(receipt, {("loan", right): (_SOME + 1) * 100})

    async def move_a_deposit(self) -> None:
        """A payer meant his loan and wrote his savings account: ops have the deposit undone, and the loan gets it."""
        account, right = savings_of(self._planned, Place.RIGHT).number, loan_of(self._planned, Place.RIGHT).number
        receipt = await self._pay("savings", account, _SOME + 2)
        await self.till.comes_to(receipt, "posted")
        await self.till.move(receipt, "meant for the loan", self._named("loan", right))
        await self._stands(receipt, {("loan", right): (_SOME + 2) * 100})

    async def find_one_undone(self) -> None:
        """An officer undoes a repayment in Mifos X by himself: ops get a case, and have the money posted to the right loan."""
        wrong, right = (loan_of(self._planned, place).number for place in (Place.WRONG, Place.RIGHT))
        receipt = await self._pay("loan", wrong, _SOME + 3)
        await self.till.comes_to(receipt, "posted")
        async with self.live.hours:
            transaction = await self.live.office.transaction_of(wrong, receipt)
            await self.live.office.undo("loan", wrong, transaction, self.live.day)
            await self.till.case("posted_payment_undone", f"{self._planned.c2b_short_code} {receipt}")
        await self.till.move(receipt, "an officer undid it: it is another client's", self._named("loan", right))
        await self._stands(receipt, {("loan", right): (_SOME + 3) * 100})

    async def pay_at_the_counter(self) -> None:
        """A cashier books cash in Mifos X, a repayment and a deposit, and takes one of them back: each hook is followed."""
        loan, account = loan_of(self._planned, Place.WRONG).number, savings_of(self._planned, Place.SHARED).number
        async with self.live.hours:
            cash = await self.live.office.take_cash("loan", loan, Decimal(_SOME), self.live.day)
            await self._recorded("loan", loan, cash)
            mistake = await self.live.office.take_cash("savings", account, Decimal(_SOME), self.live.day)
            await self._recorded("savings", account, mistake)
            await self.live.office.undo("savings", account, mistake, self.live.day)
            await self._recorded("savings", account, mistake, undone=True)

    async def prompt(self, key: str, kind: str) -> None:
        """A customer is prompted to pay and does: told by the callback and by a confirmation, posted once."""
        loan = loan_of(self._planned, Place.RIGHT)
        number = loan.number if kind == "loan" else savings_of(self._planned, Place.RIGHT).number
        reference = f"{kind[0].upper()}{self.live.office.account_no(kind, number)}"  # an external id is longer than M-Pesa allows
        request = await self.till.prompt(f"live-{key}", _PHONES[kind], _SOME, reference)
        receipt = await self.till.prompt_ends(request, "paid")
        await self._stands(str(receipt), {(kind, number): _SOME * 100})

    async def give_back(self) -> None:
        """A payment was meant for another pay bill: two persons have M-Pesa give it back, and nothing of it reaches Mifos X."""
        receipt = await self.till.pay(_PHONES["loan"], _SOME, "MAJI YA JUMA")
        await self.till.comes_to(receipt, "suspense")
        await self.till.give_back(receipt, "meant for the water company")
        await self.till.comes_to(receipt, "reversed")
        self.placed[receipt] = {}

    async def _pay(self, kind: str, number: int, shillings: int) -> str:
        return await self.till.pay(_PHONES[kind], shillings, self._planned.external_id(kind, number))

    async def _stands(self, receipt: str, where: dict[tuple[str, int], int]) -> None:
        await self.till.comes_to(receipt, "posted")
        self.placed[receipt] = {(kind, self.live.office.id_of(kind, number)): cents for (kind, number), cents in where.items()}

    async def _recorded(self, kind: str, number: int, transaction: int, *, undone: bool = False) -> None:
        """Until the hook about a cashier's transaction has been followed."""
        key = {"partner": self.till.partner.id, "kind": kind, "account": self.live.office.id_of(kind, number)}

        async def look() -> bool:
            row = await self.till.one(_RECORDED, **key, transaction=transaction)
            return row is not None and (row.undone_at is not None or not undone)

        await until(look, f"{kind} transaction {transaction} of {self._planned.name} to be recorded")

    def _named(self, kind: str, number: int) -> str:
        """The account as a person names it to a command."""
        return f"{kind}:id:{self.live.office.id_of(kind, number)}"

    @property
    def _planned(self) -> PlannedPartner:
        return self.till.planned
