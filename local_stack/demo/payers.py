"""Customers of the troubled lender who pay in every way there is, and what ops do about those whose payment finds no account."""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text

from local_stack.demo.day_plan import PlannedPartner, Trouble, loan_of, savings_of
from local_stack.demo.diary import Diary
from local_stack.demo.small_lenders import Payer, Role, loan_with, paying_phone, repaid_loans
from local_stack.demo.till import Till
from local_stack.demo.waiting_for import until
from local_stack.demo.world import account_no
from vault_core.errors import Unreachable
from vault_core.partners.collection_settings import CollectionSettings
from vault_core.phones import normalise_phone

_NOBODYS = "MAMA MBOGA"  # what a payer typed; ops find out whose it is
_LARGE, _SMALL = 60_000, 700  # shillings; one person's word is not enough for the large one
_UNSEEN = 5_000  # more than is given back in the same minute: the balances show that it came
_TOO_MUCH, _TOO_MUCH_HERE = 45_000, 8_000  # on a loan that owes less

# Where the phones of clients are known, and the numbers of those who have another account than a loan.
_MIRRORED = text("SELECT partner_id FROM mifos_mirrors WHERE partner_id = :partner AND renewed_at IS NOT NULL")
# The first pull is made when the lender is registered for it; the next one within the day is asked for by a balance.
_PULLED = text("SELECT short_code FROM pull_feeds WHERE short_code = :code AND swept_to > begins_at AND next_sweep_at > :soon")
_A_PULL_TAKES = timedelta(minutes=15)  # a sweep that is under way holds its feed for less
_POSTINGS = text(
    """
    SELECT count(*) AS n FROM core_postings p JOIN collections c ON c.id = p.subject_id
    WHERE c.short_code = :code AND c.receipt = :receipt AND p.state = 'posted'
    """
)


@dataclass(frozen=True, slots=True)
class Payers:
    """Everybody. Each act raises Unreachable when what it waits for does not come."""

    till: Till
    diary: Diary

    def acts(self) -> list[Coroutine[Any, Any, None]]:
        """All of it, side by side."""
        return [
            self.be_told_in_all_shapes(),
            self.be_found_by_all_rules(),
            self.pay_to_what_takes_nothing(),
            self.pay_too_much_by_each_policy(),
            self.assign_by_two(),
            self.miss_a_confirmation(),
        ]

    async def be_told_in_all_shapes(self) -> None:
        """M-Pesa tells payments as version 1 does, as of old, and with numbers for texts."""
        loan, savings = loan_of(self._planned, Role.RIGHT).number, savings_of(self._planned, Role.SAVER).number
        for note, shape, kind, number in (
            ("told_hashed", "v1", "loan", loan),
            ("told_in_clear", "legacy", "loan", loan),
            ("told_in_numbers", "numbers", "savings", savings),
        ):
            receipt = await self._pay(account_no(self._planned, kind, number), shape=shape)
            await self.till.is_posted(receipt, kind, number)
            self.diary.note(note)

    async def be_found_by_all_rules(self) -> None:
        """References that are no account's number: a prefix and the number, a client's number, a client's phone."""
        await self.till.settings(match_rules=(*CollectionSettings().match_rules, ("client_number",)))
        await until(lambda: self.till.one(_MIRRORED, partner=self.till.partner.id), "the troubled lender's clients to be known")
        loan, saver = loan_of(self._planned, Role.BY_PHONE), savings_of(self._planned, Role.SAVER)
        for note, reference, kind, number in (
            ("found_by_prefix", f"loan {loan.number:09d}", "loan", loan.number),
            ("found_by_client_number", f"{saver.client:09d}", "savings", saver.number),
            ("found_by_phone", self._phone_of(loan.client), "loan", loan.number),
        ):
            receipt = await self._pay(reference)
            await self.till.is_posted(receipt, kind, number)
            self.diary.note(note)
        await self._be_ambiguous()

    async def _be_ambiguous(self) -> None:
        """The phone of a client with two open accounts: nothing is guessed, ops see both and name one."""
        loan = loan_of(self._planned, Role.AMBIGUOUS)
        receipt = await self._pay(self._phone_of(loan.client))
        await self.till.comes_to(receipt, "suspense", "more than one open account")
        if (shown := await self.till.candidates(receipt)) < 2:  # noqa: PLR2004 - the two
            raise Unreachable(f"payment {receipt} shows {shown} candidates, and there are two")
        await self.till.assign(receipt, f"loan:{account_no(self._planned, 'loan', loan.number)}", "the client was asked")
        self.diary.note("ambiguous")

    async def pay_to_what_takes_nothing(self) -> None:
        """Payments to a loan that is not paid out and to an account in dollars stay with ops."""
        unpaid = loan_with(self._planned, Trouble.CANCELLED)
        receipt = await self._pay(account_no(self._planned, "loan", unpaid.number))
        await self.till.comes_to(receipt, "suspense", "approved")
        self.diary.note("to_unpaid_loan")
        receipt = await self._pay(account_no(self._planned, "savings", savings_of(self._planned, Role.DOLLARS).number))
        await self.till.comes_to(receipt, "suspense", "USD")
        self.diary.note("to_other_currency")

    async def pay_too_much_by_each_policy(self) -> None:
        """More than is owed: shared with savings, all on the loan, or held for ops. Then payments to what takes none any more."""
        closed = account_no(self._planned, "loan", repaid_loans(self._planned)[0].number)
        receipt = await self._pay(closed, _TOO_MUCH, payer=Payer.GENEROUS)
        await self._is_posted_in(receipt, 2)
        self.diary.note("too_much_shared")
        receipt = await self._pay(closed, payer=Payer.GENEROUS)
        await self.till.comes_to(receipt, "suspense", "is closed")
        self.diary.note("to_closed")

        await self.till.settings(overpayment="post_all")
        overpaid = account_no(self._planned, "loan", loan_of(self._planned, Role.POST_ALL).number)
        receipt = await self._pay(overpaid, _TOO_MUCH_HERE, payer=Payer.GENEROUS)
        await self._is_posted_in(receipt, 1)
        self.diary.note("too_much_posted")
        receipt = await self._pay(overpaid, payer=Payer.GENEROUS)
        await self.till.comes_to(receipt, "suspense", "is overpaid")
        self.diary.note("to_overpaid")

        await self.till.settings(overpayment="hold")
        loan = account_no(self._planned, "loan", loan_of(self._planned, Role.HOLD).number)
        receipt = await self._pay(loan, _TOO_MUCH_HERE, payer=Payer.GENEROUS)
        await self.till.comes_to(receipt, "suspense", "hold what is too much")
        await self.till.assign(receipt, f"loan:{loan}", "the client wants it all there", post_all=True)
        await self._is_posted_in(receipt, 1)
        self.diary.note("too_much_held")

    async def assign_by_two(self) -> None:
        """A large payment has nobody's reference: one person names a wrong account, and a second one rejects that; then the right
        one, to be remembered, and the second one agrees. The same reference then finds it.
        """  # noqa: D205 - one sentence each
        receipt = await self._pay(_NOBODYS, _LARGE, payer=Payer.UNKNOWN)
        await self.till.comes_to(receipt, "suspense")
        wrong, right = (account_no(self._planned, "savings", number) for number in (3, 1))
        await self.till.propose(receipt, f"savings:{wrong}", "she saves with us")
        await self.till.refuse(receipt, "that is another client of her name")
        self.diary.note("rejected")
        await self.till.assign(receipt, f"savings:{right}", "the lender knows the payer", two=True, remember=True)
        again = await self._pay(_NOBODYS, payer=Payer.UNKNOWN)
        await self.till.is_posted(again, "savings", 1)

    async def miss_a_confirmation(self) -> None:
        """The confirmation of a payment never comes. The balance that the next one tells shows it, and it is pulled at once."""
        soon = self.till.runtime.clock.now() + _A_PULL_TAKES
        await until(lambda: self.till.one(_PULLED, code=self._planned.c2b_short_code, soon=soon), "the first pull to be over")
        receipt = await self._pay(self._repaid(1), _UNSEEN, payer=Payer.UNCONFIRMED)
        await self._pay(self._repaid(1))
        await self.till.case("balance_gap", f"balance of pay bill {self._planned.c2b_short_code}", closed=True)
        await self.till.comes_to(receipt, "posted")
        self.diary.note("gap_pulled")

    async def _is_posted_in(self, receipt: str, parts: int) -> None:
        await self.till.comes_to(receipt, "posted")
        row: Row[Any] | None = await self.till.one(_POSTINGS, code=self._planned.c2b_short_code, receipt=receipt)
        if row is None or row.n != parts:
            raise Unreachable(f"payment {receipt} was posted in {row and row.n} parts, and not in {parts}")

    async def _pay(self, reference: str, shillings: int = _SMALL, *, payer: Payer = Payer.PLAIN, **more: object) -> str:
        return await self.till.pay(paying_phone(self._planned, payer), shillings, reference, **more)

    def _repaid(self, place: int) -> str:
        return account_no(self._planned, "loan", repaid_loans(self._planned)[place].number)

    def _phone_of(self, client: int) -> str:
        """The client's phone, as people write it."""
        return f"0{normalise_phone(self._planned.clients[client - 1].phone or '')[3:]}"

    @property
    def _planned(self) -> PlannedPartner:
        return self.till.planned
