"""Top-ups after their posting: what Mifos X took of the principal for the older loan, held against what we kept back for it.

What we pay is reckoned on a reading right before the payment. Between that and the posting the older loan may be repaid in part,
or charged: then the client got more or less than is booked there, and only people can settle that.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.mifos import MifosClient
from vault_core.database import in_transaction
from vault_core.errors import VaultError
from vault_core.money import Money
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

DIFFERS = "top_up_payoff_differs"
_MOST = 200

# The next look is written first: one that cannot be read holds up no other.
_TAKE_DUE = text(
    """
    UPDATE disbursements SET due_at = :next
    FROM (SELECT d.id FROM disbursements d
          WHERE d.state = 'disbursed' AND d.older_loan_id IS NOT NULL AND d.payoff_taken_cents IS NULL AND d.due_at <= :now
                AND NOT EXISTS (SELECT FROM outbox_outages o WHERE o.partner_id = d.partner_id AND o.topic = :mifos)
          ORDER BY d.due_at LIMIT :most FOR UPDATE OF d SKIP LOCKED) AS due
    WHERE disbursements.id = due.id
    RETURNING disbursements.id, partner_id, loan_id, loan_account_no, older_loan_id, payoff_cents, receipt
    """
)
_COMPARED = text(
    """
    UPDATE disbursements SET payoff_taken_cents = seen.taken
    FROM unnest(CAST(:ids AS uuid[]), CAST(:taken AS bigint[])) AS seen(id, taken)
    WHERE disbursements.id = seen.id AND payoff_taken_cents IS NULL RETURNING disbursements.id
    """
)


@dataclass(frozen=True, slots=True)
class _TopUp:
    id: UUID
    partner_id: UUID
    loan_id: int
    loan_account_no: str
    older_loan_id: int
    kept_back: Money
    receipt: str


async def compare_payoffs(runtime: Runtime, connections: Connections) -> int:
    """Reads the posted top-ups that are due for a look and compares; returns how many were compared. Posts nothing.

    A difference opens a case with the amounts and whose money it is. Any number of workers may look.
    """

    async def take(connection: AsyncConnection) -> list[_TopUp]:
        now = runtime.clock.now()
        following = now + timedelta(seconds=runtime.pace.poll_every)
        rows = await connection.execute(_TAKE_DUE, {"now": now, "next": following, "most": _MOST, "mifos": MIFOS_TOPIC})
        return [
            _TopUp(
                row.id, row.partner_id, row.loan_id, row.loan_account_no, row.older_loan_id, Money(row.payoff_cents), row.receipt
            )
            for row in rows
        ]

    by_partner: dict[UUID, list[_TopUp]] = {}
    for top_up in await in_transaction(runtime.engine, take):
        by_partner.setdefault(top_up.partner_id, []).append(top_up)
    looks = [_of_partner(runtime, connections, partner_id, mine) for partner_id, mine in by_partner.items()]
    return sum(await asyncio.gather(*looks))


async def _of_partner(runtime: Runtime, connections: Connections, partner_id: UUID, top_ups: Sequence[_TopUp]) -> int:
    try:
        client = await connections.mifos(partner_id)
    except VaultError as error:
        log.warning("top-ups not compared", partner_id=str(partner_id), cause=str(error))
        return 0
    looks = [(top_up, await _taken(client, top_up)) for top_up in top_ups]  # a few a day: one after the other
    taken = [(top_up, amount) for top_up, amount in looks if amount is not None]

    async def work(connection: AsyncConnection) -> int:
        seen = {"ids": [top_up.id for top_up, _ in taken], "taken": [amount.cents for _, amount in taken]}
        compared = {row.id for row in await connection.execute(_COMPARED, seen)}
        cases = [_case(top_up, amount) for top_up, amount in taken if top_up.id in compared and amount != top_up.kept_back]
        await open_cases(connection, runtime.clock, runtime.new_id, cases)
        return len(compared)

    return await in_transaction(runtime.engine, work) if taken else 0


async def _taken(client: MifosClient, top_up: _TopUp) -> Money | None:
    """What the disbursal took for the older loan, None if that cannot be told now; by what it booked beside, if not told."""
    try:
        loan = await client.loan(top_up.loan_id)
    except VaultError as error:
        log.warning("top-up not compared", loan_id=top_up.loan_id, cause=str(error))
        return None
    if loan.topped_up is not None:
        return loan.topped_up
    ours = [each for each in loan.transactions if each.receipt == top_up.receipt and each.kind == "disbursement"]
    live = [each.amount for each in ours if not each.reversed]
    return loan.approved_principal - live[0] if len(live) == 1 else None


def _case(top_up: _TopUp, taken: Money) -> NewCase:
    difference = max(taken, top_up.kept_back) - min(taken, top_up.kept_back)
    if taken < top_up.kept_back:
        what = f"the client was paid {difference} too little: the older loan took less than was kept back for it"
        do = f"give the client the {difference} (as a repayment of the new loan, or by other means), then close this case"
    else:
        what = f"the client was paid {difference} too much: the older loan took more than was kept back for it"
        do = f"agree with the client and the lender who bears the {difference}, then close this case"
    return NewCase(
        kind=DIFFERS,
        subject=f"disbursement {top_up.id}",
        partner_id=top_up.partner_id,
        amount=difference,
        evidence={
            "what": what,
            "do": do,
            "loan_id": top_up.loan_id,
            "loan_account_no": top_up.loan_account_no,
            "older_loan_id": top_up.older_loan_id,
            "kept_back": str(top_up.kept_back),
            "taken": str(taken),
            "receipt": top_up.receipt,
        },
    )
