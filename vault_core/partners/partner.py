"""A partner: a lender with its Mifos X, its M-Pesa short codes, its SMS account and its prices. Holds no secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos_values import MifosCapabilities
from vault_core.errors import NotFound
from vault_core.money import Money

PartnerState = Literal["active", "paused", "halted"]
MpesaFeePayer = Literal["wallet", "short_code"]
B2cTariff = Literal["b2c", "b2c_withdrawal_paid"]
Bouquet = Literal["business", "mgao", "customer"]


@dataclass(frozen=True, slots=True)
class Partner:
    """One row of `partners`. Secrets are not in it (they are sealed in `partner_credentials`), so its repr may be logged."""

    id: UUID
    name: str
    display_name: str
    state: PartnerState
    state_reason: str | None
    mifos_url: str
    mifos_tenant: str
    mifos_user: str
    mifos_ca_pem: str | None
    mifos_capabilities: MifosCapabilities
    mifos_payment_type_id: int | None
    mpesa_url: str
    mpesa_initiator: str
    b2c_short_code: str
    c2b_short_code: str
    b2c_command: str
    sms_url: str
    sms_user: str
    sms_sender: str
    mpesa_fee_paid_by: MpesaFeePayer  # of payouts
    b2c_tariff: B2cTariff
    c2b_bouquet: Bouquet
    c2b_fee_paid_by: MpesaFeePayer  # the part of it that the bouquet leaves to the business
    low_balance: Money
    next_poll_at: datetime
    last_poll_at: datetime | None
    last_poll_error: str | None
    created_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether new loans of this partner are paid: neither paused by a person nor halted by a refusal."""
        return self.state == "active"


_COLUMNS = """
    id, name, display_name, state, state_reason, mifos_url, mifos_tenant, mifos_user, mifos_ca_pem, mifos_capabilities,
    mifos_payment_type_id, mpesa_url, mpesa_initiator, b2c_short_code, c2b_short_code, b2c_command, sms_url, sms_user, sms_sender,
    mpesa_fee_paid_by, b2c_tariff, c2b_bouquet, c2b_fee_paid_by, low_balance_cents, next_poll_at, last_poll_at,
    last_poll_error, created_at
"""
_LIST = text(f"SELECT {_COLUMNS} FROM partners ORDER BY name")  # noqa: S608 - the columns stand above
_BY_IDS = text(f"SELECT {_COLUMNS} FROM partners WHERE id = ANY(:ids)")  # noqa: S608
_ONE = text(
    f"SELECT {_COLUMNS} FROM partners WHERE id = CAST(:id AS uuid) OR name = CAST(:name AS text)"  # noqa: S608
)


async def load_partner(connection: AsyncConnection, *, name: str | None = None, id: UUID | None = None) -> Partner:  # noqa: A002
    """The partner of that name, or of that id. Raises NotFound, naming the partners that exist."""
    row = (await connection.execute(_ONE, {"id": id, "name": name})).one_or_none()
    if row is None:
        known = ", ".join(partner.name for partner in await list_partners(connection)) or "none yet"
        raise NotFound(f"there is no partner {name or id}; partners: {known}")
    return _partner(row)


async def load_partners(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Partner]:
    """Those of `ids` that exist, by id, in one query."""
    rows = await connection.execute(_BY_IDS, {"ids": list(ids)})
    return {row.id: _partner(row) for row in rows}


async def list_partners(connection: AsyncConnection) -> list[Partner]:
    """All partners, by name."""
    return [_partner(row) for row in await connection.execute(_LIST)]


def _partner(row: Row[Any]) -> Partner:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's names
    values["mifos_capabilities"] = MifosCapabilities.from_json(values["mifos_capabilities"])
    values["low_balance"] = Money(values.pop("low_balance_cents"))
    return Partner(**values)
