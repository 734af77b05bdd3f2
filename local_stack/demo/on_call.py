"""Whoever is on call for payouts on the demo's day: follows docs/payout_stuck.md with the commands of `vault`.

A second person's word comes through the act behind the command: on this machine there is one login.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from local_stack.demo.acts import COLLEAGUE, approve_in_sandbox
from local_stack.demo.commands import Commands
from local_stack.demo.day_plan import PlannedLoan, PlannedPartner, Trouble
from local_stack.demo.diary import Diary
from local_stack.demo.people import People
from local_stack.demo.small_lenders import loan_with
from local_stack.demo.waiting_for import until
from vault_core.disbursements.resolving import approve_resolution
from vault_core.errors import Unreachable
from vault_core.partners.partner import Partner
from vault_core.phones import normalise_phone

_ATTEMPTS = text("SELECT state, result_code FROM disbursement_attempts WHERE disbursement_id = :id ORDER BY number")
_WAITS = text(
    """
    SELECT id FROM core_postings WHERE partner_id = :partner AND account_id = :loan AND state = 'unknown'
           AND last_answer LIKE 'waits for a checker%'
    """
)


@dataclass(frozen=True, slots=True)
class OnCall:
    """The person, and what of one lender. Each act raises Unreachable when what it waits for does not come."""

    people: People
    commands: Commands
    diary: Diary
    partner: Partner
    planned: PlannedPartner

    def acts(self) -> list[Coroutine[Any, Any, None]]:
        """All of it, side by side."""
        return [
            self.settle_by_evidence(),
            self.have_difference_made_good(),
            self.see_a_bare_result(),
            self.see_what_was_forgotten(),
            self.have_it_checked(),
        ]

    async def settle_by_evidence(self) -> None:
        """M-Pesa answers nothing about a large payout, and the next one to the client waits for that. It is seen in the portal,
        by one person and by another one, and the next one is paid.
        """  # noqa: D205 - one thing
        loan, following = self._loan(Trouble.TWO_PERSONS), self._loan(Trouble.SAME_PAYEE)
        row = await self.people.in_state(self.partner, loan, "needs_review")
        await approve_in_sandbox(self.people.outside, self.planned, [following])
        await self.people.in_state(self.partner, following, "held", "unresolved_payout")
        self.diary.note("payee_blocked")
        seen = await self._portal(loan)
        await self._resolve(row.id, seen["receipt"], "M-Pesa portal, payouts of the morning: completed", "--at", seen["at"])
        await self.people.in_state(self.partner, following, "disbursed")
        self.diary.note("payee_freed")

    async def have_difference_made_good(self) -> None:
        """M-Pesa paid more than was instructed. The client sends the difference back, and two persons see that it has come."""
        loan = self._loan(Trouble.OTHER_AMOUNT)
        await self.people.case(self.partner, "paid_amount_differs")
        row = await self.people.in_state(self.partner, loan, "needs_review")
        seen = await self._portal(loan)
        back = seen["amount_cents"] - loan.principal * 100
        if back <= 0:
            raise Unreachable(f"loan {loan.number} of {self.partner.name} was to be paid too much: {seen}")
        order = {"short_code": self.planned.b2c_short_code, "utility_cents": back, "of_payouts": True}
        await self.people.outside.pull("float", order)
        evidence = "M-Pesa portal: the difference was sent back to the short code"
        await self._resolve(row.id, seen["receipt"], evidence, "--amount", str(loan.principal))
        await self.people.in_state(self.partner, loan, "disbursed")
        await self.people.closed(self.partner, "paid_amount_differs")
        self.diary.note("difference_made_good")

    async def see_a_bare_result(self) -> None:
        """A result says that it was paid, and not under which receipt. A question finds that, and the case is closed by hand."""
        case = await self.people.case(self.partner, "result_not_understood")
        await self.people.in_state(self.partner, self._loan(Trouble.BARE_RESULT), "disbursed")
        words = ("--reason", "M-Pesa's answer to a question told the receipt", "--evidence", "`vault disbursements show`")
        await self.commands.run("cases", "close", str(case), *words)
        self.diary.note("bare_result")

    async def see_what_was_forgotten(self) -> None:
        """M-Pesa took a payout and knows nothing of it when it is asked, late enough: that one is dead, another one pays."""
        loan = self._loan(Trouble.FORGOTTEN)
        row = await self.people.in_state(self.partner, loan, "disbursed")
        async with self.people.runtime.engine.connect() as connection:
            attempts = [tuple(each) for each in await connection.execute(_ATTEMPTS, {"id": row.id})]
        if attempts[0] != ("failed", "2033") or attempts[1:] != [("paid", "0")]:
            raise Unreachable(f"loan {loan.number} of {self.partner.name} was to be paid after it was forgotten: {attempts}")
        self.diary.note("forgotten")

    async def have_it_checked(self) -> None:
        """Mifos X wants a checker for a disbursal: the posting waits, is not sent again, and is seen once he has approved it."""
        loan = self._loan(Trouble.CHECKED)

        async def waits() -> bool:
            async with self.people.runtime.engine.connect() as connection:
                return (
                    await connection.execute(_WAITS, {"partner": self.partner.id, "loan": loan.number})
                ).one_or_none() is not None

        await until(waits, f"the posting of loan {loan.number} of {self.partner.name} to wait for a checker")
        await self.people.officer(self.planned).approve_what_waits(loan.number)
        await self.people.in_state(self.partner, loan, "disbursed")
        self.diary.note("checked")

    async def _resolve(self, disbursement: UUID, receipt: str, evidence: str, *more: str) -> None:
        """One person states what it saw, the colleague looks and approves."""
        words = (str(disbursement), "--paid", receipt, "--evidence", evidence)
        stated = await self.commands.run("disbursements", "resolve", *words, *more)
        if stated["state"] != "proposed":
            raise Unreachable(f"`vault disbursements resolve` was to wait for a second person: {stated}")
        await approve_resolution(self.people.runtime, disbursement, actor=COLLEAGUE)

    async def _portal(self, loan: PlannedLoan) -> dict[str, Any]:
        """The payout to the loan's client as the M-Pesa portal shows it."""
        phone = normalise_phone(self.planned.clients[loan.client - 1].phone or "")
        paid = (await self.people.outside.truth())["mpesa"]["short_codes"][self.planned.b2c_short_code]["b2c"]
        seen: dict[str, Any] = next(payout for payout in paid if payout["phone"] == phone)
        return seen

    def _loan(self, trouble: Trouble) -> PlannedLoan:
        return loan_with(self.planned, trouble)
