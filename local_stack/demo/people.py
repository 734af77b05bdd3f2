"""What the people of ops and of the small lenders do on the demo's day, each as soon as there is something for them to do.

The acts of ops are those behind the commands of `vault`; officers work in their Mifos X, and finance buys float, over HTTP.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from local_stack.demo.acts import ACTOR, Outside, approve_in_sandbox, top_up_again
from local_stack.demo.day_plan import PlannedLoan, PlannedPartner, Trouble
from local_stack.demo.officer import Officer
from local_stack.demo.other_program import OtherProgram
from local_stack.demo.small_lenders import FALL, loan_with
from local_stack.demo.waiting_for import PATIENCE, until
from vault_core.cases.closing import close_by_hand
from vault_core.clock import business_day
from vault_core.disbursements.payout_halt import begin_halt, end_halt
from vault_core.disbursements.person_acts import cancel_payout, hold_payout, release_payout, retry_payout
from vault_core.disbursements.under_way import await_quiet
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.partner import Partner
from vault_core.partners.states import resume_partner
from vault_core.runtime import Runtime

_IN_FULL_SWING = 40  # instructions written
_MORE_FLOAT = 10_000_000

_LOAN = text(
    """
    SELECT id, state, held_for, receipt FROM disbursements WHERE partner_id = :partner AND loan_id = :loan AND tranche = 1
    """
)
_CASE = text(
    "SELECT id, closed_at FROM cases WHERE kind = :kind AND (CAST(:partner AS uuid) IS NULL OR partner_id = :partner) LIMIT 1"
)
_STATE = text("SELECT state FROM partners WHERE id = :partner")
_MIDDAY = text(
    """
    SELECT (SELECT count(*) FROM disbursement_attempts) >= :instructed
           AND EXISTS (SELECT FROM float_reports WHERE partner_id = :partner) AS come
    """
)
_SHORT = text("SELECT count(*) FROM disbursements WHERE partner_id = :partner AND held_for = 'wallet_short'")


@dataclass(frozen=True, slots=True)
class People:
    """Everybody. Each act raises Unreachable when what it waits for does not come in a quarter of an hour."""

    runtime: Runtime
    outside: Outside
    sandbox_url: str
    partners: Mapping[str, tuple[Partner, PlannedPartner]]

    def at_troubled(self, name: str) -> list[Coroutine[Any, Any, None]]:
        """Everything that people do for the lender whose loans have each their trouble."""
        return [
            self.halt_and_lift(name),
            self.post_by_hand(name),
            self.undo(name),
            self.correct_missing_number(name),
            self.correct_wrong_number(name),
            self.other_program_pays(name),
            *(self.see(name, kind) for kind in ("contradicting_result", "float_gap", "tariff_difference")),
        ]

    async def tops_up(self, name: str, after: Callable[[], bool]) -> None:
        """Finance pays into the wallet of a lender whose loans wait for it, once `after`."""
        partner, planned = self.partners[name]
        await until(lambda: self._wallet_is_short(partner, after), f"{name} to run short")
        await top_up_again(self.runtime, partner, planned)

    async def buys_float(self, name: str) -> None:
        """Finance buys float for a lender once ops have the case that it is short."""
        partner, planned = self.partners[name]
        await self.case(partner, "float_short")
        await self.outside.pull("float", {"short_code": planned.b2c_short_code, "utility_cents": _MORE_FLOAT * 100})
        await self.closed(partner, "float_short")

    async def unlock(self, name: str) -> None:
        """Somebody has locked the initiator: once the queue has stopped it is unlocked in the portal and the lender resumed."""
        partner, _ = self.partners[name]
        await until(lambda: self._is_halted(partner), f"{name} to be halted")
        await await_quiet(self.runtime, within=PATIENCE, partner_id=partner.id)
        await self.outside.pull("faults", {"initiator_locked": None})
        await resume_partner(self.runtime, partner.id, reason="the initiator was unlocked in the M-Pesa portal", actor=ACTOR)

    async def halt_and_lift(self, name: str) -> None:
        """In the middle of the day ops stop everything. Meanwhile two loans are approved, one is held back and one cancelled, and
        somebody moves float away. Then all goes on, and the loan that was held back is released.
        """  # noqa: D205 - one sentence each
        partner, planned = self.partners[name]
        await until(lambda: self._is_midday(partner), "the day to be in full swing")
        await begin_halt(self.runtime, reason="the day's figures are looked at", actor=ACTOR)
        await await_quiet(self.runtime, within=PATIENCE)
        back, away = loan_with(planned, Trouble.HELD_BACK), loan_with(planned, Trouble.CANCELLED)
        await approve_in_sandbox(self.outside, planned, [back, away])
        held, cancelled = await self.found(partner, back), await self.found(partner, away)
        await hold_payout(self.runtime, held, actor=ACTOR, reason="the client asked to wait")
        await cancel_payout(self.runtime, cancelled, actor=ACTOR, reason="the client has withdrawn")
        await self.outside.pull("float", {"short_code": planned.b2c_short_code, "utility_cents": -FALL * 100})
        await end_halt(self.runtime, reason="all is well", actor=ACTOR)
        await release_payout(self.runtime, held, actor=ACTOR, reason="the client may have it now")

    async def post_by_hand(self, name: str) -> None:
        """Mifos X refuses a disbursal for good: the officer mends that and books it by hand; it is seen, and its case closes."""
        partner, planned = self.partners[name]
        loan = loan_with(planned, Trouble.POSTED_BY_HAND)
        await self.case(partner, "disbursement_unposted")
        row = await self.in_state(partner, loan, "needs_review")
        await self.officer(planned).disburse_by_hand(loan.number, loan.principal, self._today(), row.receipt)
        await self.closed(partner, "disbursement_unposted")

    async def undo(self, name: str) -> None:
        """An officer undoes a disbursal by mistake. Nobody is paid again; he books it anew, and ops close the case."""
        partner, planned = self.partners[name]
        loan, officer = loan_with(planned, Trouble.UNDONE), self.officer(planned)
        row = await self.in_state(partner, loan, "disbursed")
        await officer.undo_disbursal(loan.number, "wrong loan")
        case = await self.case(partner, "disbursal_undone")
        await officer.disburse_by_hand(loan.number, loan.principal, self._today(), row.receipt)
        reason, evidence = "it was undone by mistake", "Mifos X: disbursed again by hand under the same receipt"
        await close_by_hand(self.runtime, case, reason=reason, evidence=evidence, actor=ACTOR)

    async def correct_missing_number(self, name: str) -> None:
        """A client has no mobile number: the officer writes it, and ops have the loan looked at again at once."""
        partner, planned = self.partners[name]
        loan = loan_with(planned, Trouble.NUMBER_MISSING)
        row = await self.in_state(partner, loan, "held")
        await self.officer(planned).correct_number(loan.client, _new_number(loan))
        await retry_payout(self.runtime, row.id, actor=ACTOR, reason="the number was written")

    async def correct_wrong_number(self, name: str) -> None:
        """M-Pesa knows no customer under the number: the officer corrects it, and ops release the loan."""
        partner, planned = self.partners[name]
        loan = loan_with(planned, Trouble.NUMBER_WRONG)
        await self.case(partner, "payout_failed")
        row = await self.in_state(partner, loan, "needs_review")
        await self.officer(planned).correct_number(loan.client, _new_number(loan))
        await release_payout(self.runtime, row.id, actor=ACTOR, reason="the number was corrected")

    async def other_program_pays(self, name: str) -> None:
        """Another program of the lender sends a payout of its own and has its result told to us."""
        partner, planned = self.partners[name]
        program = OtherProgram(self.sandbox_url, planned, self.runtime.http)
        await program.pay_too_little(callback_url(self.runtime, partner.id, "b2c_result"))
        await self.case(partner, "result_without_payout")

    async def see(self, name: str, kind: str) -> None:
        """Ops get a case of this kind about the lender."""
        await self.case(self.partners[name][0], kind)

    def officer(self, planned: PlannedPartner) -> Officer:
        """The lender's officer."""
        return Officer(self.sandbox_url, planned.host, self.runtime.http)

    def _today(self) -> date:
        return business_day(self.runtime.clock.now())

    async def _one(self, query: Any, **values: object) -> Row[Any] | None:
        async with self.runtime.engine.connect() as connection:
            return (await connection.execute(query, values)).one_or_none()

    async def in_state(self, partner: Partner, loan: PlannedLoan, state: str, held_for: str | None = None) -> Row[Any]:
        """Until the loan is in `state`, and held for that; its row."""

        async def look() -> Row[Any] | None:
            row = await self._one(_LOAN, partner=partner.id, loan=loan.number)
            return row if row is not None and row.state == state and (held_for is None or row.held_for == held_for) else None

        return await until(look, f"loan {loan.number} of {partner.name} to be {state}")

    async def found(self, partner: Partner, loan: PlannedLoan) -> UUID:
        """Until the product has found the loan; its disbursement's id."""
        what = f"loan {loan.number} of {partner.name} to be found"
        row = await until(partial(self._one, _LOAN, partner=partner.id, loan=loan.number), what)
        found: UUID = row.id
        return found

    async def case(self, partner: Partner, kind: str) -> UUID:
        """Until there is a case of this kind about the lender; its id."""
        row = await until(partial(self._one, _CASE, kind=kind, partner=partner.id), f"a case {kind} of {partner.name}")
        found: UUID = row.id
        return found

    async def closed(self, partner: Partner, kind: str) -> None:
        """Until the case of this kind has closed by itself."""

        async def look() -> bool:
            row = await self._one(_CASE, kind=kind, partner=partner.id)
            return row is not None and row.closed_at is not None

        await until(look, f"the case {kind} of {partner.name} to close by itself")

    async def _is_halted(self, partner: Partner) -> bool:
        row = await self._one(_STATE, partner=partner.id)
        return row is not None and row.state == "halted"

    async def _is_midday(self, partner: Partner) -> bool:
        """Sending is in full swing, and M-Pesa has told the lender's balance, so that a fall of it shows."""
        row = await self._one(_MIDDAY, instructed=_IN_FULL_SWING, partner=partner.id)
        return row is not None and row.come

    async def _wallet_is_short(self, partner: Partner, after: Callable[[], bool]) -> bool:
        row = await self._one(_SHORT, partner=partner.id)
        return after() and row is not None and row[0] > 0


def _new_number(loan: PlannedLoan) -> str:
    return f"0798{loan.client:06d}"
