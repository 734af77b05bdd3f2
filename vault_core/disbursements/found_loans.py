"""Approved loans as they are found, by a poll or by a hook: read with the client's phone, examined, inserted once."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import ApprovedLoan, MifosClient
from vault_core.clock import business_day
from vault_core.disbursements.candidates import product_rules
from vault_core.disbursements.closed_days import ClosedDays, held_for_closed_day
from vault_core.disbursements.eligibility import Held, HeldFor, LoanDays, LoanFacts, ProductRules, Ready, examine
from vault_core.disbursements.holding import next_look
from vault_core.disbursements.tranches import NoPart, Part, PartFound, WrongState, part_of
from vault_core.disbursements.undone_disbursals import tell_undone
from vault_core.errors import LoginRefused, NotFound, Unreachable, VaultError
from vault_core.runtime import Runtime

FoundBy = Literal["poll", "hook"]

_CLIENT_READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class FoundLoan:
    """A loan of an enabled product whose part `number` is next, with its client's phone as Mifos X has it."""

    loan: ApprovedLoan
    phone: str | None = field(repr=False)
    number: int = 1
    active_client: bool = True
    closed_days: ClosedDays = field(default_factory=ClosedDays)

    def decide(self, today: date, product: ProductRules | None) -> Ready | Held:
        """Whether it may be paid. `today` is the day in Nairobi."""
        decision = examine(self.facts(today), product)
        if isinstance(decision, Held) or self.number > 1:  # closed days stop a first disbursal only
            return decision
        return self._closed(today, product) or decision

    def _closed(self, today: date, product: ProductRules | None) -> Held | None:
        return held_for_closed_day(
            self.closed_days,
            self.loan.office_id,
            expected=self.loan.expected_on,
            today=today,
            expected_day_only=product is not None and product.expected_day_only,
        )

    @property
    def part(self) -> Part:
        """What would be paid and posted; the whole loan where its plan cannot be paid."""
        found = part_of(self.loan, self.number)
        return found if isinstance(found, Part) else Part(self.number, 1, self.loan.approved_principal, self.loan.net_disbursal)

    def facts(self, today: date) -> LoanFacts:
        """What the decision to pay it depends on. `today` is the day in Nairobi."""
        return LoanFacts(
            principal=self.part.principal,
            payout=self.part.payout,
            currency=self.loan.currency,
            group=self.loan.group,
            phone=self.phone,
            plan=_plan(part_of(self.loan, self.number), today),
            active_client=self.active_client,
            days=self._days(today),
        )

    def _days(self, today: date) -> LoanDays | None:
        if self.number > 1:  # the days of the loan are those of its first disbursal
            return None
        loan = self.loan
        return LoanDays(today, loan.approved_on, loan.expected_on, loan.first_repayment_on, loan.top_up)


_KNOWN = text(
    """
    SELECT loan_id, state, held_for, posted_at FROM disbursements
    WHERE partner_id = :partner_id AND loan_id = ANY(:loan_ids) AND tranche = 1
    """
)
_WAKE = text(
    """
    UPDATE disbursements SET due_at = :now
    WHERE partner_id = :partner_id AND loan_id = ANY(:loan_ids) AND state = 'held' AND held_for = 'not_approved'
    """
)
_INSERT = text(
    """
    INSERT INTO disbursements (id, partner_id, loan_id, tranche, of_tranches, loan_account_no, loan_external_id, product_id,
                               client_id, client_name_sealed, phone_sealed, phone_hash, currency, principal_cents, payout_cents,
                               older_loan_id, payoff_cents, approved_on, state, held_for, reason, found_by, detected_at, due_at)
    SELECT new.id, :partner_id, new.loan_id, new.tranche, new.of_tranches, new.account_no, new.external_id, new.product_id,
           new.client_id, new.name_sealed, new.phone_sealed, new.phone_hash, new.currency, new.principal, new.payout,
           new.older_loan, new.payoff, new.approved_on, new.state, new.held_for, new.reason, :found_by, :now, new.due_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:loan_ids AS bigint[]), CAST(:tranches AS integer[]), CAST(:of_tranches AS boolean[]),
                CAST(:account_nos AS text[]), CAST(:external_ids AS text[]), CAST(:product_ids AS bigint[]),
                CAST(:client_ids AS bigint[]), CAST(:names AS bytea[]), CAST(:phones AS bytea[]), CAST(:phone_hashes AS bytea[]),
                CAST(:currencies AS text[]), CAST(:principals AS bigint[]), CAST(:payouts AS bigint[]),
                CAST(:older_loans AS bigint[]), CAST(:payoffs AS bigint[]), CAST(:approvals AS date[]), CAST(:states AS text[]),
                CAST(:held_fors AS text[]), CAST(:reasons AS text[]), CAST(:dues AS timestamptz[]))
         AS new(id, loan_id, tranche, of_tranches, account_no, external_id, product_id, client_id, name_sealed, phone_sealed,
                phone_hash, currency, principal, payout, older_loan, payoff, approved_on, state, held_for, reason, due_at)
    ON CONFLICT (partner_id, loan_id, tranche) DO NOTHING RETURNING id, loan_id
    """
)


async def new_ones(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, loans: Sequence[ApprovedLoan], *, read_at: datetime
) -> list[ApprovedLoan]:
    """Those of the approved `loans` that have no disbursement yet and are of an enabled product. `read_at`: when reading began.

    A known one that was held because it was not approved is looked at again. One that we posted as disbursed before it was read
    as approved was undone in Mifos X: it is not paid again, a person gets a case, once.
    """
    rules = await product_rules(connection, partner_id, [loan.product_id for loan in loans])
    enabled = [loan for loan in loans if (product := rules.get(loan.product_id)) is not None and product.enabled]
    rows = await connection.execute(_KNOWN, {"partner_id": partner_id, "loan_ids": [loan.id for loan in loans]})
    known = {row.loan_id: row for row in rows}
    waiting = [loan_id for loan_id, row in known.items() if row.held_for == "not_approved"]
    if waiting:
        await connection.execute(_WAKE, {"partner_id": partner_id, "loan_ids": waiting, "now": runtime.clock.now()})
    undone = [
        loan for loan in loans if loan.id in known and known[loan.id].state == "disbursed" and known[loan.id].posted_at <= read_at
    ]
    await tell_undone(connection, runtime, partner_id, undone)
    return [loan for loan in enabled if loan.id not in known]


async def with_phones(client: MifosClient, loans: Sequence[ApprovedLoan], *, number: int = 1) -> list[FoundLoan]:
    """Each loan with its client's phone, its tranches, what its older loan owes: no list has them. `number`: the next part.

    Raises what reads raise.
    """
    turns = asyncio.Semaphore(_CLIENT_READS_AT_ONCE)
    return list(await asyncio.gather(*(_read(client, turns, loan, number) for loan in loans)))


async def those_readable(client: MifosClient, loans: Sequence[ApprovedLoan]) -> tuple[list[FoundLoan], list[str]]:
    """As `with_phones`, of those that can be read, and of each other one why not: it must hold back none.

    Raises what stands in the way of all: Unreachable, LoginRefused.
    """
    turns = asyncio.Semaphore(_CLIENT_READS_AT_ONCE)

    async def one(loan: ApprovedLoan) -> FoundLoan | str:
        try:
            return await _read(client, turns, loan, 1)
        except (Unreachable, LoginRefused):
            raise
        except VaultError as error:
            return f"loan {loan.account_no}: {error}"

    read = await asyncio.gather(*map(one, loans))
    return [each for each in read if isinstance(each, FoundLoan)], [each for each in read if isinstance(each, str)]


async def _read(client: MifosClient, turns: asyncio.Semaphore, listed: ApprovedLoan, number: int) -> FoundLoan:
    async with turns:
        in_parts = listed.multi_disburse and not listed.tranches
        loan = await client.loan(listed.id) if in_parts or (listed.top_up and listed.payoff is None) else listed
    if loan.client_id is None or loan.group:
        return FoundLoan(loan, None, number)
    async with turns:
        try:
            person = await client.client(loan.client_id)
            return FoundLoan(loan, person.mobile_no, number, person.active)
        except NotFound:
            return FoundLoan(loan, None, number)


async def insert_found(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, found: Sequence[FoundLoan], found_by: FoundBy
) -> dict[int, UUID]:
    """Inserts each loan once, ready or held with its reason; returns the new ids by loan. What is known stays as it is."""
    if not found:
        return {}
    rules = await product_rules(connection, partner_id, [item.loan.product_id for item in found])
    today = business_day(runtime.clock.now())
    decisions = [item.decide(today, rules.get(item.loan.product_id)) for item in found]
    rows = await connection.execute(_INSERT, _columns(runtime, partner_id, found, decisions, found_by))
    return {row.loan_id: row.id for row in rows}


def _columns(
    runtime: Runtime, partner_id: UUID, found: Sequence[FoundLoan], decisions: Sequence[Ready | Held], found_by: FoundBy
) -> Mapping[str, object]:
    now, sealer = runtime.clock.now(), runtime.sealer
    ids = [runtime.new_id() for _ in found]
    loans = [item.loan for item in found]
    phones = [decision.phone if isinstance(decision, Ready) else None for decision in decisions]
    held = [decision if isinstance(decision, Held) else None for decision in decisions]
    return {
        "partner_id": partner_id,
        "found_by": found_by,
        "now": now,
        "ids": ids,
        "loan_ids": [loan.id for loan in loans],
        "tranches": [item.number for item in found],
        "of_tranches": [loan.multi_disburse for loan in loans],
        "account_nos": [loan.account_no for loan in loans],
        "external_ids": [loan.external_id for loan in loans],
        "product_ids": [loan.product_id for loan in loans],
        "client_ids": [loan.client_id for loan in loans],
        "names": [
            sealer.seal(loan.client_name, bound_to=f"disbursements:{row_id}:client_name_sealed") if loan.client_name else None
            for row_id, loan in zip(ids, loans, strict=True)
        ],
        "phones": [
            sealer.seal(phone, bound_to=f"disbursements:{row_id}:phone_sealed") if phone else None
            for row_id, phone in zip(ids, phones, strict=True)
        ],
        "phone_hashes": [sealer.lookup_hash(phone, purpose="phone") if phone else None for phone in phones],
        "currencies": [loan.currency for loan in loans],
        "principals": [item.part.principal.cents for item in found],
        "payouts": [item.part.payout.cents for item in found],
        "older_loans": [item.part.older_loan_id for item in found],
        "payoffs": [item.part.payoff.cents if item.part.payoff is not None else None for item in found],
        "approvals": [loan.approved_on for loan in loans],
        "states": ["held" if cause else "ready" for cause in held],
        "held_fors": [cause.held_for if cause else None for cause in held],
        "reasons": [cause.reason if cause else None for cause in held],
        "dues": [now + next_look(cause.held_for, runtime.pace) if cause else now for cause in held],
    }


def _plan(found: PartFound, today: date) -> Held | None:
    match found:
        case NoPart():
            return Held(HeldFor.TOP_UP if found.top_up else HeldFor.TRANCHE_LOAN, found.reason)
        case WrongState():
            return Held(HeldFor.NOT_APPROVED, found.reason)
        case Part(due_on=date() as due_on) if due_on > today:
            return Held(
                HeldFor.TRANCHE_NOT_DUE, f"tranche {found.number} of {found.planned} is planned for {due_on}: it goes then"
            )
        case Part():
            return None
