"""Writing the mirror of the partners' accounts, set by set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos_values import AccountState, FoundAccount, ListedClient
from vault_core.collections.matching import compact
from vault_core.collections.mirror import PHONE, name_binding
from vault_core.errors import InvalidInput
from vault_core.phones import normalise_phone
from vault_core.secrets import Sealer


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """The state of an account as Mifos X has just told it, met on the way of something else."""

    partner_id: UUID
    kind: str
    account_id: int
    state: AccountState


# A later word stands: a page that was read before a repayment must not undo what was seen after it.
_WRITE = text(
    """
    INSERT INTO mifos_accounts (partner_id, kind, account_id, account_no, external_id, product_id, currency, state, client_id,
                                client_no, client_name_sealed, phone_hash, refreshed_at)
    SELECT :partner_id, new.*, :at
    FROM unnest(CAST(:kinds AS text[]), CAST(:ids AS bigint[]), CAST(:numbers AS text[]), CAST(:external_ids AS text[]),
                CAST(:products AS bigint[]), CAST(:currencies AS text[]), CAST(:states AS text[]), CAST(:clients AS bigint[]),
                CAST(:client_nos AS text[]), CAST(:names AS bytea[]), CAST(:phones AS bytea[])) AS new
    ON CONFLICT (partner_id, kind, account_id) DO UPDATE SET
        account_no = excluded.account_no, external_id = excluded.external_id, product_id = excluded.product_id,
        currency = excluded.currency, state = excluded.state, client_id = excluded.client_id, client_no = excluded.client_no,
        client_name_sealed = excluded.client_name_sealed, phone_hash = excluded.phone_hash, refreshed_at = excluded.refreshed_at
    WHERE mifos_accounts.refreshed_at <= excluded.refreshed_at
    """
)
_SEEN = text(
    """
    UPDATE mifos_accounts SET state = told.state, refreshed_at = :at
    FROM unnest(CAST(:partners AS uuid[]), CAST(:kinds AS text[]), CAST(:ids AS bigint[]), CAST(:states AS text[]))
         AS told(partner_id, kind, account_id, state)
    WHERE mifos_accounts.partner_id = told.partner_id AND mifos_accounts.kind = told.kind
      AND mifos_accounts.account_id = told.account_id AND mifos_accounts.state <> told.state
      AND mifos_accounts.refreshed_at <= :at
    """
)
_PAID_OUT = text(
    """
    UPDATE mifos_accounts SET state = 'active', refreshed_at = posted_at
    FROM core_postings
    WHERE core_postings.partner_id = :partner_id AND posted_at > :since AND core_postings.kind = 'disburse'
      AND core_postings.state = 'posted' AND mifos_accounts.partner_id = :partner_id AND mifos_accounts.kind = 'loan'
      AND mifos_accounts.account_id = core_postings.account_id AND mifos_accounts.state IN ('pending', 'approved')
      AND refreshed_at < posted_at
    """
)
_DROP = text("DELETE FROM mifos_accounts WHERE partner_id = :partner_id AND refreshed_at < :before")
_KNOWN = text("SELECT account_id FROM mifos_accounts WHERE partner_id = :partner_id AND kind = :kind AND account_id = ANY(:ids)")
_HIGHEST = text("SELECT coalesce(max(account_id), 0) FROM mifos_accounts WHERE partner_id = :partner_id AND kind = :kind")


async def write_accounts(
    connection: AsyncConnection,
    sealer: Sealer,
    partner_id: UUID,
    accounts: Sequence[FoundAccount],
    clients: Mapping[int, ListedClient],
    *,
    at: datetime,
) -> None:
    """Writes `accounts`, each once, as Mifos X had them `at`, with what is known of their clients."""
    if not accounts:
        return
    ordered = sorted(accounts, key=lambda one: (one.kind, one.id))  # one order for all: no deadlock
    owners = [clients.get(one.client_id) if one.client_id is not None else None for one in ordered]
    await connection.execute(
        _WRITE,
        {
            "partner_id": partner_id,
            "at": at,
            "kinds": [one.kind for one in ordered],
            "ids": [one.id for one in ordered],
            "numbers": [one.account_no for one in ordered],
            "external_ids": [one.external_id for one in ordered],
            "products": [one.product_id for one in ordered],
            "currencies": [one.currency for one in ordered],
            "states": [one.state.value for one in ordered],
            "clients": [one.client_id for one in ordered],
            "client_nos": [None if owner is None else compact(owner.account_no) for owner in owners],
            "names": [
                one.client_name and sealer.seal(one.client_name, bound_to=name_binding(partner_id, one.kind, one.id))
                for one in ordered
            ],
            "phones": [None if owner is None else phone_hash(sealer, owner.mobile_no) for owner in owners],
        },
    )


async def note_seen(connection: AsyncConnection, seen: Sequence[SeenAccount], *, at: datetime) -> None:
    """Writes states that Mifos X told in passing, after a posting say. Accounts that the mirror has not are left to it."""
    if seen:
        latest = {(one.partner_id, one.kind, one.account_id): one.state.value for one in seen}
        keys = sorted(latest)  # one order for all: no deadlock
        told = {"partners": [key[0] for key in keys], "kinds": [key[1] for key in keys], "ids": [key[2] for key in keys]}
        await connection.execute(_SEEN, {**told, "states": [latest[key] for key in keys], "at": at})


async def note_paid_out(connection: AsyncConnection, partner_id: UUID, *, since: datetime) -> None:
    """Loans whose disbursal we have posted `since` are active."""
    await connection.execute(_PAID_OUT, {"partner_id": partner_id, "since": since})


async def drop_gone(connection: AsyncConnection, partner_id: UUID, *, before: datetime) -> None:
    """Drops accounts that Mifos X no longer has: a full read that began at `before` did not meet them."""
    await connection.execute(_DROP, {"partner_id": partner_id, "before": before})


async def known_ids(connection: AsyncConnection, partner_id: UUID, kind: str, ids: Sequence[int]) -> set[int]:
    """Those of the accounts `ids` of `kind` that the mirror has."""
    rows = await connection.execute(_KNOWN, {"partner_id": partner_id, "kind": kind, "ids": list(ids)})
    return set(rows.scalars())


async def highest_id(connection: AsyncConnection, partner_id: UUID, kind: str) -> int:
    """The highest id of `kind` that the mirror has; 0 for none."""
    return int((await connection.execute(_HIGHEST, {"partner_id": partner_id, "kind": kind})).scalar_one())


def phone_hash(sealer: Sealer, phone: str | None) -> bytes | None:
    """By what a phone that is written in clear is found; None for one that is masked, hashed or no Kenyan mobile number."""
    try:
        return sealer.lookup_hash(normalise_phone(phone or ""), purpose=PHONE)
    except InvalidInput:
        return None
