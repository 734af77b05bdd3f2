"""Holding payments to their partner's over-payment policy, on a fresh reading of the loan right before the first call."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import ApprovedLoan, FoundAccount
from vault_core.collections.intended_posting import NewPosting, write_postings
from vault_core.collections.overpayment import Fits, Held, Overpayment, Shared, Verdict, is_too_much, judge_overpayment
from vault_core.collections.pending import PendingCollection
from vault_core.errors import VaultError
from vault_core.money import Money
from vault_core.partners.collection_settings import load_collection_settings
from vault_core.partners.connections import Connections
from vault_core.postings.posting_rows import count_made
from vault_core.runtime import Runtime

# Only what no call was made for: a posting that another worker has begun keeps what it was begun with.
_UNTOUCHED = text(
    """
    SELECT id, amount_cents, transaction_date FROM core_postings
    WHERE id = ANY(:ids) AND tries = 0 AND state IN ('intended', 'unknown') ORDER BY id FOR UPDATE
    """
)
_REPAY = text("UPDATE core_postings SET amount_cents = :owed WHERE id = :id")
_FORGO = text("UPDATE core_postings SET state = 'refused', last_answer = :why WHERE id = ANY(:ids)")
_TO_SAVINGS = text(
    "UPDATE collections SET account_kind = 'savings', account_id = :account_id, account_no = :account_no WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on each payment that could pay too much, or why its loan could not be read; the others are not in it.

    `made_before`: of their repayments, how many postings their loans had got before they were read (posting_rows.count_made).
    """

    verdicts: Mapping[PendingCollection, Verdict | VaultError] = field(default_factory=dict)
    made_before: Mapping[UUID, int] = field(default_factory=dict)


async def judge_overpayments(runtime: Runtime, connections: Connections, pending: Sequence[PendingCollection]) -> Judged:
    """Judges each of `pending` that could pay too much, by what is owed now.

    None is judged that is a deposit, under a policy that posts all, or that a call was made for. What was shared between loan and
    savings and then not called for is judged anew.
    """
    open_ones = [one for one in pending if _is_open(one)]
    if not open_ones:
        return Judged()
    async with runtime.engine.connect() as connection:
        settings = await load_collection_settings(connection, list({one.partner_id for one in open_ones}))
        policies = [(one, Overpayment(settings[one.partner_id].overpayment)) for one in open_ones]
        asked = [(one, policy) for one, policy in policies if policy is not Overpayment.POST_ALL]
        made_before = await count_made(connection, [one.postings[0].id for one, _ in asked])
    verdicts = await asyncio.gather(*(_judge(connections, one, policy) for one, policy in asked))
    return Judged({one: verdict for (one, _), verdict in zip(asked, verdicts, strict=True)}, made_before)


async def write_overpayments(
    connection: AsyncConnection, runtime: Runtime, verdicts: Mapping[PendingCollection, Verdict]
) -> list[tuple[PendingCollection, Held]]:
    """Changes the intended postings as judged, in the caller's transaction; returns the payments that are held.

    What another worker began to post, or shared, meanwhile is left alone.
    """
    held: list[tuple[PendingCollection, Held]] = []
    for one, verdict in verdicts.items():
        meant = {posting.id: posting.amount.cents for posting in one.postings}
        rows = (await connection.execute(_UNTOUCHED, {"ids": list(meant)})).all()
        if {row.id: row.amount_cents for row in rows} != meant:
            continue
        if isinstance(verdict, Held):
            await connection.execute(_FORGO, {"ids": list(meant), "why": verdict.reason})
            held.append((one, verdict))
        else:
            await _share(connection, runtime, one, verdict, rows[0].transaction_date)
    return held


async def _share(
    connection: AsyncConnection, runtime: Runtime, one: PendingCollection, verdict: Shared | Fits, day: date
) -> None:
    """Has the loan repaid what is owed on it, and the rest deposited; a share of earlier falls away."""
    repayment, *earlier = one.postings
    why = "what is owed has changed: the payment is shared anew"
    await connection.execute(_FORGO, {"ids": [posting.id for posting in earlier], "why": why})
    if isinstance(verdict, Fits):
        await connection.execute(_REPAY, {"id": repayment.id, "owed": _due(one).cents})
        return
    savings = verdict.savings
    if verdict.owed:
        await connection.execute(_REPAY, {"id": repayment.id, "owed": verdict.owed.cents})
    else:
        why = f"nothing is owed on {one.account_words}: it goes to savings {savings.account_no}"
        await connection.execute(_FORGO, {"ids": [repayment.id], "why": why})
        await connection.execute(_TO_SAVINGS, {"id": one.id, "account_id": savings.id, "account_no": savings.account_no})
    await write_postings(connection, runtime, [NewPosting(one, "savings", savings.id, verdict.rest, day)])


def _is_open(one: PendingCollection) -> bool:
    kinds = [posting.kind for posting in one.postings]
    shared_or_alone = kinds[:1] == ["repayment"] and "repayment" not in kinds[1:]
    return shared_or_alone and all(posting.untouched for posting in one.postings) and not one.post_all


def _due(one: PendingCollection) -> Money:
    """What of it is to be posted, loan and savings together."""
    return Money(sum(posting.amount.cents for posting in one.postings))


async def _judge(connections: Connections, one: PendingCollection, policy: Overpayment) -> Verdict | VaultError:
    try:
        client = await connections.mifos(one.partner_id)
        loan = await client.loan(one.postings[0].account_id)
        amount = _due(one)
        if any(each.receipt == one.receipt and each.kind == "repayment" and not each.reversed for each in loan.transactions):
            return Fits(perhaps_there=True)  # what is owed is less by it already
        if not is_too_much(amount, loan):
            return Fits()
        savings = await _savings_of(client, loan) if policy is Overpayment.TO_SAVINGS else []
        return judge_overpayment(amount, loan, policy, savings)
    except VaultError as error:
        return error


async def _savings_of(client: MifosClient, loan: ApprovedLoan) -> list[FoundAccount]:
    if loan.client_id is None:
        return []
    open_ones = await client.open_accounts(loan.client_id)
    return [await client.account(kind, account_id) for kind, account_id in open_ones if kind == "savings"]
