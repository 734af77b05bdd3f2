"""The posting of a matched payment to Mifos X, written with the match that decided it and before it is made."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos_values import FoundAccount
from vault_core.clock import business_day
from vault_core.collections.pending import PendingCollection
from vault_core.runtime import Runtime

_MATCHED = text(
    """
    UPDATE collections SET state = 'posting', account_kind = told.kind, account_id = told.account_id,
           account_no = told.account_no, client_id = told.client_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:account_ids AS bigint[]), CAST(:account_nos AS text[]),
                CAST(:client_ids AS bigint[])) AS told(id, kind, account_id, account_no, client_id)
    WHERE collections.id = told.id AND state = 'matching'
    RETURNING collections.id
    """
)
_INTEND = text(
    """
    INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt, amount_cents,
                               transaction_date, created_at)
    SELECT new.*, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:kinds AS text[]), CAST(:subject_ids AS uuid[]),
                CAST(:account_ids AS bigint[]), CAST(:external_ids AS text[]), CAST(:keys AS text[]), CAST(:receipts AS text[]),
                CAST(:amounts AS bigint[]), CAST(:days AS date[])) AS new
    ON CONFLICT (kind, subject_id) DO NOTHING
    """
)


async def intend_postings(
    connection: AsyncConnection, runtime: Runtime, matched: Sequence[tuple[PendingCollection, FoundAccount]]
) -> None:
    """Writes each payment's account and intended posting, in the caller's transaction. One that is matched already stays so."""
    if not matched:
        return
    taken = await connection.execute(
        _MATCHED,
        {
            "ids": [one.id for one, _ in matched],
            "kinds": [account.kind for _, account in matched],
            "account_ids": [account.id for _, account in matched],
            "account_nos": [account.account_no for _, account in matched],
            "client_ids": [account.client_id for _, account in matched],
        },
    )
    taken_ids = {row.id for row in taken}
    new = [(one, account) for one, account in matched if one.id in taken_ids]
    await connection.execute(
        _INTEND,
        {
            "ids": [runtime.new_id() for _ in new],
            "partner_ids": [one.partner_id for one, _ in new],
            "kinds": ["repayment" if account.kind == "loan" else "deposit" for _, account in new],
            "subject_ids": [one.id for one, _ in new],
            "account_ids": [account.id for _, account in new],
            # The same whatever database booked the receipt: Mifos X itself then refuses to post it twice.
            "external_ids": [f"pv-c2b-{one.short_code}-{one.receipt}" for one, _ in new],
            "keys": [runtime.new_id().hex for _ in new],
            "receipts": [one.receipt for one, _ in new],
            "amounts": [one.amount.cents for one, _ in new],
            "days": [business_day(one.happened_at) for one, _ in new],
            "now": runtime.clock.now(),
        },
    )
