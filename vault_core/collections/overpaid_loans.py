"""Holding payments to their partner's over-payment policy, on a fresh reading of the loan right before the first call."""

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import ApprovedLoan, FoundAccount
from vault_core.collections.intended_posting import NewPosting, write_postings
from vault_core.collections.overpayment import Fits, Held, Overpayment, Shared, Verdict, is_too_much, judge_overpayment
from vault_core.collections.pending import PendingCollection
from vault_core.errors import VaultError
from vault_core.partners.collection_settings import load_collection_settings
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

# Only what no call was made for: a posting that another worker has begun keeps what it was begun with.
_REPAY = text(
    """
    UPDATE core_postings SET amount_cents = :owed
    WHERE id = :id AND tries = 0 AND state IN ('intended', 'unknown') AND amount_cents = :amount RETURNING transaction_date
    """
)
_FORGO = text(
    """
    UPDATE core_postings SET state = 'refused', last_answer = :why
    WHERE id = :id AND tries = 0 AND state IN ('intended', 'unknown') AND amount_cents = :amount RETURNING transaction_date
    """
)
_TO_SAVINGS = text(
    "UPDATE collections SET account_kind = 'savings', account_id = :account_id, account_no = :account_no WHERE id = :id"
)


async def judge_overpayments(
    runtime: Runtime, connections: Connections, pending: Sequence[PendingCollection]
) -> dict[PendingCollection, Verdict | VaultError]:
    """The verdict on each of `pending` that could pay too much, or why its loan could not be read; the others are not in it.

    None is needed for a deposit, under a policy that posts all, or once a call was made or the payment was shared.
    """
    open_ones = [one for one in pending if _is_open(one)]
    if not open_ones:
        return {}
    async with runtime.engine.connect() as connection:
        settings = await load_collection_settings(connection, list({one.partner_id for one in open_ones}))
    policies = [(one, Overpayment(settings[one.partner_id].overpayment)) for one in open_ones]
    asked = [(one, policy) for one, policy in policies if policy is not Overpayment.POST_ALL]
    verdicts = await asyncio.gather(*(_judge(connections, one, policy) for one, policy in asked))
    return {one: verdict for (one, _), verdict in zip(asked, verdicts, strict=True)}


async def write_overpayments(
    connection: AsyncConnection, runtime: Runtime, verdicts: Mapping[PendingCollection, Verdict | VaultError]
) -> list[tuple[PendingCollection, Held]]:
    """Changes the intended postings as judged, in the caller's transaction; returns the payments that are held.

    What another worker began to post meanwhile is left alone.
    """
    held: list[tuple[PendingCollection, Held]] = []
    for one, verdict in verdicts.items():
        posting = one.postings[0]
        values = {"id": posting.id, "amount": posting.amount.cents}
        if isinstance(verdict, Held):
            if (await connection.execute(_FORGO, {**values, "why": verdict.reason})).one_or_none() is not None:
                held.append((one, verdict))
        elif isinstance(verdict, Shared):
            await _share(connection, runtime, one, verdict)
    return held


async def _share(connection: AsyncConnection, runtime: Runtime, one: PendingCollection, verdict: Shared) -> None:
    posting, savings = one.postings[0], verdict.savings
    values = {"id": posting.id, "amount": posting.amount.cents}
    if verdict.owed:
        row = (await connection.execute(_REPAY, {**values, "owed": verdict.owed.cents})).one_or_none()
    else:
        why = f"nothing is owed on {one.account_words}: it goes to savings {savings.account_no}"
        row = (await connection.execute(_FORGO, {**values, "why": why})).one_or_none()
    if row is None:
        return
    await write_postings(connection, runtime, [NewPosting(one, "savings", savings.id, verdict.rest, row.transaction_date)])
    if not verdict.owed:
        await connection.execute(_TO_SAVINGS, {"id": one.id, "account_id": savings.id, "account_no": savings.account_no})


def _is_open(one: PendingCollection) -> bool:
    alone = len(one.postings) == 1 and one.postings[0].kind == "repayment"
    return alone and one.postings[0].untouched and not one.post_all


async def _judge(connections: Connections, one: PendingCollection, policy: Overpayment) -> Verdict | VaultError:
    try:
        client = await connections.mifos(one.partner_id)
        loan = await client.loan(one.postings[0].account_id)
        amount = one.postings[0].amount
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
