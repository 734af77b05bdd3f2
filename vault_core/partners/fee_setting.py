"""Changing what a partner pays: its system fees, from a day on, and who bears M-Pesa's fees. Audited."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.partner_fields import B2C_TARIFFS, BOUQUETS, FEE_PAYERS
from vault_core.partners.system_fees import FeeTerms, Service, SystemFee, fee_columns, load_system_fees, write_system_fees
from vault_core.runtime import Runtime

_IN_THE_WAY = "PV002"  # raised by the guards of system_fees (revision 0014)

_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('system fees ' || CAST(:partner_id AS text), 0))")
_END = text("UPDATE system_fees SET valid_to = :day WHERE id = :id")
_KNOWN_PRODUCT = text("SELECT count(*) FROM partner_products WHERE partner_id = :partner_id AND product_id = :product_id")
_BEARERS = text(
    """
    UPDATE partners SET mpesa_fee_paid_by = :mpesa_fee_paid_by, b2c_tariff = :b2c_tariff, c2b_bouquet = :c2b_bouquet,
           c2b_fee_paid_by = :c2b_fee_paid_by WHERE id = :id
    """
)


@dataclass(frozen=True, slots=True)
class FeeChange:
    """What setting a fee did. `former` ends where `terms` begin; `repeated`: the same terms stood already, nothing changed."""

    terms: FeeTerms | None
    valid_from: date
    former: SystemFee | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class FeeBearers:
    """Who pays M-Pesa's fees; None leaves what stands. The words are those of docs/partners.md."""

    mpesa_fee_paid_by: str | None = None
    b2c_tariff: str | None = None
    c2b_bouquet: str | None = None
    c2b_fee_paid_by: str | None = None


_CHOICES = {
    "mpesa_fee_paid_by": FEE_PAYERS,
    "b2c_tariff": B2C_TARIFFS,
    "c2b_bouquet": BOUQUETS,
    "c2b_fee_paid_by": FEE_PAYERS,
}


async def set_fee(runtime: Runtime, partner: Partner, terms: FeeTerms, valid_from: date, *, actor: str) -> FeeChange:
    """Charges `terms` from `valid_from` (a day in Nairobi) on; the fee in force ends there. The same again changes nothing.

    A fee that was set for that very day and has charged nothing yet is taken back. Raises InvalidInput for a day that is over,
    NotFound for a product the partner has not, Conflict where a charge of that day or a later fee is in the way.
    """
    return await _change(runtime, partner, terms.service, terms.product_id, terms, valid_from, actor)


async def end_fee(
    runtime: Runtime, partner: Partner, service: Service, product_id: int | None, day: date, *, actor: str
) -> FeeChange:
    """Ends the fee in force on `day`: a product's transactions then cost what the service does, a service's nothing.

    Raises as `set_fee`, and NotFound if no fee holds there.
    """
    return await _change(runtime, partner, service, product_id, None, day, actor)


async def set_fee_bearers(runtime: Runtime, partner: Partner, wanted: FeeBearers, *, actor: str) -> Partner:
    """Changes who pays M-Pesa's fees, for what is charged from now on. A repeat changes nothing. Raises InvalidInput."""
    given = {key: value for key in _CHOICES if (value := getattr(wanted, key)) is not None}
    for key, value in given.items():
        if value not in _CHOICES[key]:
            raise InvalidInput(f"{key} {value!r} is none of the choices; write one of {', '.join(_CHOICES[key])}")

    async def work(connection: AsyncConnection) -> Partner:
        await connection.execute(_TURN, {"partner_id": str(partner.id)})
        standing = await load_partner(connection, id=partner.id)
        before = {key: getattr(standing, key) for key in _CHOICES}
        after = before | given
        if after == before:
            return standing
        await connection.execute(_BEARERS, {"id": partner.id, **after})
        await _record(connection, runtime, standing, "charges.bearers_set", before, after, actor)
        return replace(standing, **after)

    return await in_transaction(runtime.engine, work)


async def _change(
    runtime: Runtime, partner: Partner, service: Service, product_id: int | None, terms: FeeTerms | None, day: date, actor: str
) -> FeeChange:
    today = business_day(runtime.clock.now())
    if day < today:
        raise InvalidInput(f"{day} is over: a price holds from today ({today}) or a later day on")

    async def work(connection: AsyncConnection) -> FeeChange:
        await connection.execute(_TURN, {"partner_id": str(partner.id)})
        await _need_product(connection, partner, product_id)
        fees = [
            fee
            for fee in (await load_system_fees(connection, [partner.id]))[partner.id]
            if (fee.terms.service, fee.terms.product_id) == (service, product_id)
        ]
        later = next((fee for fee in fees if fee.valid_from > day), None)
        if later is not None:
            raise Conflict(f"a fee from {later.valid_from} on is set already ({later.terms}): change it from that day on")
        former = next((fee for fee in fees if fee.holds_on(day)), None)
        if former is None and terms is None:
            raise NotFound(f"{partner.name} has no such fee on {day}; `vault charges fees {partner.name}` shows what it pays")
        if former is not None and former.terms == terms:
            return FeeChange(terms, former.valid_from, None, repeated=True)
        return await _replace(connection, runtime, partner, former, terms, day, actor)

    return await in_transaction(runtime.engine, work)


async def _need_product(connection: AsyncConnection, partner: Partner, product_id: int | None) -> None:
    if product_id is None:
        return
    known = await connection.execute(_KNOWN_PRODUCT, {"partner_id": partner.id, "product_id": product_id})
    if not known.scalar_one():
        raise NotFound(f"{partner.name} has no loan product {product_id}; `vault partner products {partner.name}` lists them")


async def _replace(
    connection: AsyncConnection,
    runtime: Runtime,
    partner: Partner,
    former: SystemFee | None,
    terms: FeeTerms | None,
    day: date,
    actor: str,
) -> FeeChange:
    if former is not None:
        await _end(connection, former.id, day)
    if terms is not None:
        now = runtime.clock.now()
        await write_system_fees(connection, partner.id, [(runtime.new_id(), terms)], valid_from=day, actor=actor, now=now)
    before = None if former is None else {**fee_columns(former.terms), "valid_from": str(former.valid_from), "ended_on": str(day)}
    after = None if terms is None else {**fee_columns(terms), "valid_from": str(day)}
    await _record(connection, runtime, partner, "charges.fee_set" if terms else "charges.fee_ended", before, after, actor)
    return FeeChange(terms, day, former)


async def _end(connection: AsyncConnection, fee_id: UUID, day: date) -> None:
    try:
        await connection.execute(_END, {"id": fee_id, "day": day})
    except DBAPIError as error:
        cause = error.orig
        if isinstance(cause, psycopg.Error) and cause.sqlstate == _IN_THE_WAY:
            raise Conflict(f"{cause.diag.message_primary}; tomorrow is the first day that nothing can have used") from error
        raise


async def _record(
    connection: AsyncConnection,
    runtime: Runtime,
    partner: Partner,
    act: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    actor: str,
) -> None:
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act=act,
        subject=f"charges of {partner.name}",
        partner_id=partner.id,
        before=before,
        after=after,
    )
