"""At the lender whom M-Pesa asks before it takes a payment: what it is told, and a payment of which only a statement tells."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import text

from local_stack.demo.commands import Commands
from local_stack.demo.day_plan import Found, PlannedPartner, savings_of
from local_stack.demo.diary import Diary
from local_stack.demo.other_program import OtherProgram
from local_stack.demo.small_lenders import Payer, Role, paying_phone, repaid_loans
from local_stack.demo.till import Till
from local_stack.demo.waiting_for import until
from local_stack.demo.world import account_no
from vault_core.errors import Unreachable
from vault_core.money import Money
from vault_core.partners.callback_urls import CallbackPurpose, callback_url

_NOBODYS = "MAMA MBOGA"
_SMALL, _LEAST, _TOO_LITTLE = 700, 40, 10  # shillings

# The receiver reads every few seconds how far the copy of the accounts is.
_RECEIVER_KNOWS_AFTER = timedelta(seconds=8)
_MIRRORED = text("SELECT partner_id FROM mifos_mirrors WHERE partner_id = :partner AND renewed_at < :before")


@dataclass(frozen=True, slots=True)
class Gatekeepers:
    """The lender's people. Each act raises Unreachable when what it waits for does not come."""

    till: Till
    diary: Diary
    commands: Commands
    other_program: OtherProgram

    def acts(self, after: Callable[[], bool]) -> list[Coroutine[Any, Any, None]]:
        """All of it, side by side; the rules change once the day's plain payments have come (`after`)."""
        return [self.answer_with_every_code(after), self.import_a_statement()]

    async def answer_with_every_code(self, after: Callable[[], bool]) -> None:
        """Payers are refused, each with his code. What cannot be told is taken by the lender's rule at first, then refused."""

        async def come() -> bool:
            before = self.till.runtime.clock.now() - _RECEIVER_KNOWS_AFTER
            return after() and await self.till.one(_MIRRORED, partner=self.till.partner.id, before=before) is not None

        await until(come, "the day's plain payments to come and the accounts to be known")
        await self._refused("refused_account", "C2B00012", Payer.UNKNOWN, _NOBODYS)
        unpaid = account_no(self._planned, "loan", next(loan.number for loan in self._planned.loans if loan.found is Found.POLL))
        receipt = await self.till.pay(self._phone(Payer.PLAIN), _SMALL, unpaid)
        await self.till.comes_to(receipt, "suspense", "not paid out")
        self.diary.note("taken_unknown")
        await self.till.settings(least=Money.shillings(_LEAST), when_unknown="refuse")
        await self._refused_at_last("refused_amount", "C2B00013", _TOO_LITTLE)
        await self._refused("refused_unknown", "C2B00016", Payer.PLAIN, unpaid)
        blocked = account_no(self._planned, "savings", savings_of(self._planned, Role.BLOCKED).number)
        await self._refused("refused_customer", "C2B00014", Payer.PLAIN, blocked)
        await self._refused("refused_phone", "C2B00011", Payer.ABROAD, blocked, shape="legacy")
        # What customers pay to the lender's other short code comes to our addresses by mistake.
        confirmed, asked = (
            callback_url(self.till.runtime, self.till.partner.id, purpose)
            for purpose in (CallbackPurpose.C2B_CONFIRMATION, CallbackPurpose.C2B_VALIDATION)
        )
        await self.other_program.register(confirmed, asked)
        await self._refused("refused_short_code", "C2B00015", Payer.PLAIN, unpaid, short_code=self._planned.b2c_short_code)

    async def import_a_statement(self) -> None:
        """The confirmation of a payment never comes, and nothing is pulled: ops download the lender's statement and import it."""
        number = repaid_loans(self._planned)[0].number
        receipt = await self.till.pay(self._phone(Payer.UNCONFIRMED), _SMALL, account_no(self._planned, "loan", number))
        statement = await self.till.outside.statement(self._planned.c2b_short_code)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "statement.csv"
            file.write_bytes(statement)
            words = ("collections", "import-statement", str(file), "--partner", self._planned.name)
            if (await self.commands.run(*words, "--dry-run"))["booked"] < 1:
                raise Unreachable(f"the statement shows nothing that is missing, and {receipt} is")
            await self.commands.run(*words)
        await self.till.is_posted(receipt, "loan", number)
        self.diary.note("imported")

    async def _refused(self, note: str, code: str, payer: Payer, reference: str, **more: object) -> None:
        answer = await self.till.take(self._phone(payer), _SMALL, reference, **more)
        if answer.get("result_code") != code:
            raise Unreachable(f"a payment to {self._planned.name} was to be refused with {code}: {answer}")
        self.diary.note(note)

    async def _refused_at_last(self, note: str, code: str, shillings: int) -> None:
        """A payment of nobody's, which is refused anyway, with `code` as soon as the receiver knows the lender's new rules."""

        async def look() -> bool:
            return (await self.till.take(self._phone(Payer.UNKNOWN), shillings, _NOBODYS)).get("result_code") == code

        await until(look, f"a payment to {self._planned.name} to be refused with {code}")
        self.diary.note(note)

    def _phone(self, payer: Payer) -> str:
        return paying_phone(self._planned, payer)

    @property
    def _planned(self) -> PlannedPartner:
        return self.till.planned
