"""Asking the mirror of the partners' accounts: which accounts may a reference name, and how old is what it says.

The mirror answers "does it exist" from local data. It is never a source of money facts: posting reads Mifos X.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos_values import AccountState, FoundAccount
from vault_core.collections.aliases import alias_hash
from vault_core.collections.candidates import near_keys
from vault_core.collections.matching import KnownAccount, Reference
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer

PHONE = "phone"  # the purpose of a phone's keyed hash, one over all tables
_MOST_ACCOUNTS = 20  # of one key: more can only be ambiguous
_MOST_NEAR = 40


@dataclass(frozen=True, slots=True)
class Freshness:
    """Until when a partner's mirror is known to hold: `read_at` all accounts, `renewed_at` those made since. None: never read."""

    read_at: datetime | None = None
    renewed_at: datetime | None = None

    def holds(self, now: datetime, for_: timedelta) -> bool:
        """Whether the mirror may be believed that an account does not exist."""
        return self.read_at is not None and self.renewed_at is not None and now - self.renewed_at <= for_


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a reference, in both its written forms, at a partner."""

    partner_id: UUID
    reference: Reference
    alias_hash: bytes
    phone_hash: bytes | None


_COLUMNS = """partner_id, kind, account_id, account_no, external_id, product_id, currency, state, client_id, client_no,
        client_name_sealed, phone_hash"""
# A limit in each part keeps one crowded key from making the others wait.
_FIND = text(
    f"""
    SELECT told.n, false AS alias, CAST(NULL AS text) AS said_alone_by, found.*
    FROM unnest(CAST(:key_ns AS int[]), CAST(:key_partners AS uuid[]), CAST(:keys AS text[])) AS told(n, partner, key)
    CROSS JOIN LATERAL (
        (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = told.partner AND number_key = told.key LIMIT :most)
        UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = told.partner AND external_key = told.key LIMIT :most)
        UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = told.partner AND client_no = told.key LIMIT :most)) found
    UNION ALL
    SELECT told.n, false, NULL, found.*
    FROM unnest(CAST(:phone_ns AS int[]), CAST(:phone_partners AS uuid[]), CAST(:phones AS bytea[])) AS told(n, partner, hash)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = told.partner AND phone_hash = told.hash LIMIT :most) found
    UNION ALL
    SELECT told.n, true, CASE WHEN a.agreed_by IS NULL THEN a.added_by END, found.*
    FROM unnest(CAST(:alias_ns AS int[]), CAST(:alias_partners AS uuid[]), CAST(:aliases AS bytea[])) AS told(n, partner, hash)
    JOIN account_aliases a ON a.partner_id = told.partner AND a.reference_hash = told.hash AND a.removed_at IS NULL
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM mifos_accounts
        WHERE partner_id = a.partner_id AND kind = a.kind AND account_id = a.account_id) found
    """  # noqa: S608 - the columns stand above
)
_NEAR = text(
    f"""
    (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = :partner_id AND number_key = ANY(:near) LIMIT :most)
    UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = :partner_id AND external_key = ANY(:near) LIMIT :most)
    UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = :partner_id AND bare_key = ANY(:bare) LIMIT :most)
    UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = :partner_id AND client_no = ANY(:numbers) LIMIT :most)
    UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = :partner_id AND phone_hash = ANY(:phones) LIMIT :most)
    UNION (SELECT {_COLUMNS} FROM mifos_accounts WHERE partner_id = :partner_id AND client_id = ANY(:clients) LIMIT :most)
    """  # noqa: S608
)
_FRESHNESS = text("SELECT partner_id, read_at, renewed_at FROM mifos_mirrors WHERE partner_id = ANY(:ids)")


def ask_about(sealer: Sealer, partner_id: UUID, typed: str, reference: Reference) -> Question:
    """The question that `reference`, typed as `typed`, is."""
    phone = None if reference.phone is None else sealer.lookup_hash(reference.phone, purpose=PHONE)
    return Question(partner_id, reference, alias_hash(sealer, typed), phone)


async def find_known(connection: AsyncConnection, questions: Sequence[Question]) -> list[list[KnownAccount]]:
    """For each question, in order, the accounts that its reference may name by any rule. One statement for all of them."""
    keys = [(n, one.partner_id, key) for n, one in enumerate(questions) for key in one.reference.numbers]
    phones = [(n, one.partner_id, one.phone_hash) for n, one in enumerate(questions) if one.phone_hash is not None]
    aliases = [(n, one.partner_id, one.alias_hash) for n, one in enumerate(questions)]
    told = {**_arrays(keys, "key", "keys"), **_arrays(phones, "phone", "phones"), **_arrays(aliases, "alias", "aliases")}
    found: list[dict[tuple[str, int], KnownAccount]] = [{} for _ in questions]
    for row in await connection.execute(_FIND, {**told, "most": _MOST_ACCOUNTS}):
        known = replace(_known(row, None), alias=row.alias, said_alone_by=row.said_alone_by)
        before = found[row.n].get(known.key)
        if before is None or row.alias:
            found[row.n][known.key] = known
    return [list(each.values()) for each in found]


async def find_near(
    connection: AsyncConnection,
    runtime: Runtime,
    question: Question,
    *,
    clients: Iterable[int] = (),
    payer_phone_hash: bytes | None = None,
) -> list[KnownAccount]:
    """Accounts that the payer may have meant: near numbers, the typed or the paying phone's, other accounts of `clients`."""
    numbers = question.reference.numbers
    bare = {stripped for number in numbers if (stripped := number.lstrip("0"))}
    rows = await connection.execute(
        _NEAR,
        {
            "partner_id": question.partner_id,
            "near": sorted({near for number in numbers for near in near_keys(number)}),
            "bare": sorted(bare),
            "numbers": list(numbers),
            "phones": [one for one in (question.phone_hash, payer_phone_hash) if one is not None],
            "clients": list(clients),
            "most": _MOST_NEAR,
        },
    )
    return [_known(row, runtime.sealer) for row in rows]


async def load_freshness(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Freshness]:
    """How old the mirror of each of the partners `ids` is."""
    rows = await connection.execute(_FRESHNESS, {"ids": list(ids)})
    return defaultdict(Freshness, {row.partner_id: Freshness(row.read_at, row.renewed_at) for row in rows})


def name_binding(partner_id: UUID, kind: str, account_id: int) -> str:
    """What the sealed client name of a mirrored account is bound to."""
    return f"mifos_accounts:{partner_id}:{kind}:{account_id}:client_name"


def _arrays(told: Sequence[tuple[int, UUID, Any]], name: str, values: str) -> dict[str, list[Any]]:
    return {
        f"{name}_ns": [n for n, _, _ in told],
        f"{name}_partners": [partner for _, partner, _ in told],
        values: [value for _, _, value in told],
    }


def _known(row: Row[Any], sealer: Sealer | None) -> KnownAccount:
    """The row's account; its client's name only with a `sealer`, because opening it costs."""
    name = None
    if sealer is not None and row.client_name_sealed is not None:
        name = sealer.open_text(row.client_name_sealed, bound_to=name_binding(row.partner_id, row.kind, row.account_id))
    return KnownAccount(
        account=FoundAccount(
            kind=row.kind,
            id=row.account_id,
            account_no=row.account_no,
            external_id=row.external_id,
            client_id=row.client_id,
            client_name=name,
            state=AccountState(row.state),
            currency=row.currency,
            product_id=row.product_id,
        ),
        client_no=row.client_no,
        phone_hash=None if row.phone_hash is None else bytes(row.phone_hash),
    )
