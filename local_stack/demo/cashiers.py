"""What cashiers and ops of the troubled lender do about payments that stand in a wrong place, or were made at the counter."""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text

from local_stack.demo.acts import ACTOR
from local_stack.demo.day_plan import PlannedPartner, loan_of, savings_of
from local_stack.demo.diary import Diary
from local_stack.demo.officer import Officer
from local_stack.demo.small_lenders import Payer, Role, paying_phone, repaid_loans
from local_stack.demo.till import Till
from local_stack.demo.waiting_for import until
from local_stack.demo.world import account_no
from vault_core.clock import business_day
from vault_core.partners.core_payment_texts import set_core_payment_texts

_SMALL, _CASH = 700, 600
_MISTAKE = "MAJI YA JUMA"  # what a payer typed who meant somebody else's pay bill

_RECORDED = text(
    """
    SELECT r.undone_at, EXISTS (SELECT FROM messages m WHERE m.business_key LIKE 'core_payment:' || r.partner_id || '%'
                                AND m.business_key LIKE '%:' || r.transaction_id) AS texted
    FROM core_payments r WHERE r.partner_id = :partner AND r.account_kind = :kind AND r.account_id = :account
    """
)


@dataclass(frozen=True, slots=True)
class Cashiers:
    """Everybody. Each act raises Unreachable when what it waits for does not come."""

    till: Till
    diary: Diary
    officer: Officer

    def acts(self) -> list[Coroutine[Any, Any, None]]:
        """All of it, side by side."""
        return [
            self.move(),
            self.take_out(),
            self.find_one_undone(),
            self.pay_at_the_counter(),
            self.give_back("given_back", None),
            self.give_back("given_back_unheard", "reversal_result_lost"),
            self.give_back("given_back_late", "reversal_result_late"),
        ]

    async def move(self) -> None:
        """A payer got one digit wrong: ops have the repayment undone in Mifos X and posted to the right loan."""
        receipt = await self._pay_to_wrong_loan()
        await self.till.move(receipt, "one digit was wrong", self._named(Role.RIGHT))
        await self.till.is_posted(receipt, "loan", loan_of(self._planned, Role.RIGHT).number)
        self.diary.note("moved")

    async def take_out(self) -> None:
        """So another one, of whom nobody knows yet what he meant: kept in suspense until he has been asked."""
        receipt = await self._pay_to_wrong_loan()
        await self.till.move(receipt, "the client does not know of it", to="suspense")
        await self.till.assign(receipt, self._named(Role.RIGHT), "the payer was asked")
        self.diary.note("taken_out")

    async def find_one_undone(self) -> None:
        """An officer undoes a repayment in Mifos X by himself: ops get a case, and have it posted to the right loan."""
        receipt = await self._pay_to_wrong_loan()
        await self.officer.undo_repayment(loan_of(self._planned, Role.WRONG).number, receipt, self._today)
        await self.till.case("posted_payment_undone", f"{self._planned.c2b_short_code} {receipt}")
        await self.till.move(receipt, "an officer undid it: it is another client's", self._named(Role.RIGHT))
        await self.till.is_posted(receipt, "loan", loan_of(self._planned, Role.RIGHT).number)
        self.diary.note("undone_by_officer")

    async def pay_at_the_counter(self) -> None:
        """Clients pay cash, and the officer books it in Mifos X, one deposit by mistake: its hooks tell, and no money of M-Pesa's
        moves. The lender wants its clients to be texted.
        """  # noqa: D205 - one sentence each
        await set_core_payment_texts(self.till.runtime, self.till.partner, on=True, actor=ACTOR)
        loan, savings = repaid_loans(self._planned)[2].number, savings_of(self._planned, Role.SAVER).number
        await self.officer.take_repayment(loan, _CASH, self._today)
        await self._recorded("loan", loan, texted=True)
        self.diary.note("cash_repaid")
        mistake = await self.officer.take_deposit(savings, _CASH, self._today)
        await self._recorded("savings", savings)
        self.diary.note("cash_deposited")
        await self.officer.undo_deposit(savings, mistake, self._today)
        await self._recorded("savings", savings, undone=True)
        self.diary.note("cash_taken_back")

    async def give_back(self, note: str, fault: str | None) -> None:
        """A payment was meant for another pay bill: two persons have M-Pesa give it back, whose result may meet a `fault`."""
        receipt = await self.till.pay(paying_phone(self._planned, Payer.MISTAKEN), _SMALL, _MISTAKE)
        await self.till.comes_to(receipt, "suspense")
        if fault is not None:
            await self.till.outside.pull("faults", {fault: {"units": [receipt], "scope": [self._planned.c2b_short_code]}})
        await self.till.give_back(receipt, "meant for the water company")
        await self.till.comes_to(receipt, "reversed")
        self.diary.note(note)

    async def _pay_to_wrong_loan(self) -> str:
        """A payment that is posted to the loan that it is not for; its receipt."""
        wrong = loan_of(self._planned, Role.WRONG).number
        receipt = await self.till.pay(paying_phone(self._planned, Payer.PLAIN), _SMALL, account_no(self._planned, "loan", wrong))
        await self.till.is_posted(receipt, "loan", wrong)
        return receipt

    async def _recorded(self, kind: str, account: int, *, texted: bool = False, undone: bool = False) -> None:
        key = {"partner": self.till.partner.id, "kind": kind, "account": account}

        async def look() -> bool:
            row = await self.till.one(_RECORDED, **key)
            return row is not None and (row.texted or not texted) and (row.undone_at is not None or not undone)

        await until(look, f"cash on {kind} {account} of {self._planned.name} to be recorded")

    def _named(self, role: Role) -> str:
        return f"loan:{account_no(self._planned, 'loan', loan_of(self._planned, role).number)}"

    @property
    def _today(self) -> date:
        return business_day(self.till.runtime.clock.now())

    @property
    def _planned(self) -> PlannedPartner:
        return self.till.planned
