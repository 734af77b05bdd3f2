"""Which loan products of a partner are paid out, and within which limits. Products are known by id: names are editable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.clients.mifos_values import LoanProduct
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

# A single B2C payment (reference/daraja.md section 8).
B2C_LEAST = Money.shillings(10)
B2C_MOST = Money.shillings(250_000)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one loan may be, and what a day may bring of a product (None: no bound a day)."""

    least: Money
    most: Money
    daily: Money | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """A loan product of a partner's Mifos X, as last seen there, and what we do with it."""

    product_id: int
    name: str
    short_name: str
    currency: str
    active_in_mifos: bool
    enabled: bool
    limits: Limits | None


# A lender with two short codes is two partners with one Mifos X. Each takes in all of its approved loans.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('who pays a product', 0))")
_PAID_BY_ANOTHER = text(
    """
    SELECT o.name, q.enabled FROM partners me
    JOIN partners o ON o.id <> me.id
         AND (lower(o.mifos_url), lower(o.mifos_tenant)) = (lower(me.mifos_url), lower(me.mifos_tenant))
    JOIN partner_products q ON q.partner_id = o.id AND q.product_id = :product_id
    WHERE me.id = :partner_id AND (q.enabled OR EXISTS (
        SELECT FROM disbursements d JOIN disbursement_attempts a ON a.disbursement_id = d.id
        WHERE d.partner_id = o.id AND d.product_id = q.product_id AND d.state <> 'disbursed' AND a.state <> 'failed'))
    ORDER BY q.enabled DESC, o.name LIMIT 1
    """
)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh found: names of products that are new, and of those that are gone or inactive by now."""

    products: list[Product]
    new: list[str]
    gone: list[str]


_COLUMNS = "product_id, name, short_name, currency, active_in_mifos, enabled, min_cents, max_cents, daily_limit_cents"
_LIST = text(f"SELECT {_COLUMNS} FROM partner_products WHERE partner_id = :partner_id ORDER BY product_id")  # noqa: S608
_SEEN = text(
    """
    INSERT INTO partner_products (partner_id, product_id, name, short_name, currency, active_in_mifos, expected_day_only, seen_at)
    SELECT :partner_id, seen.id, seen.name, seen.short_name, seen.currency, seen.active, seen.expected_day_only, :now
    FROM unnest(CAST(:ids AS bigint[]), CAST(:names AS text[]), CAST(:short_names AS text[]), CAST(:currencies AS text[]),
                CAST(:actives AS boolean[]), CAST(:expected_days_only AS boolean[]))
         AS seen(id, name, short_name, currency, active, expected_day_only)
    ON CONFLICT (partner_id, product_id) DO UPDATE
    SET name = excluded.name, short_name = excluded.short_name, currency = excluded.currency,
        active_in_mifos = excluded.active_in_mifos, expected_day_only = excluded.expected_day_only, seen_at = excluded.seen_at
    """
)
_GONE = text(
    """
    UPDATE partner_products SET active_in_mifos = false
    WHERE partner_id = :partner_id AND active_in_mifos AND product_id <> ALL(:ids)
    """
)
_ENABLE = text(
    """
    UPDATE partner_products
    SET enabled = :enabled, min_cents = :min_cents, max_cents = :max_cents, daily_limit_cents = :daily_limit_cents
    WHERE partner_id = :partner_id AND product_id = :product_id
    """
)
_LOCK = text("SELECT 1 FROM partners WHERE id = :partner_id FOR NO KEY UPDATE")


async def list_products(connection: AsyncConnection, partner_id: UUID) -> list[Product]:
    """The products of a partner as last seen, by id."""
    return [_product(row) for row in await connection.execute(_LIST, {"partner_id": partner_id})]


async def write_products(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, found: Sequence[LoanProduct]) -> None:
    """Writes all products that Mifos X has now. What was enabled, with its limits, stays; what is gone is marked inactive."""
    ids = [product.id for product in found]
    await connection.execute(
        _SEEN,
        {
            "partner_id": partner_id,
            "ids": ids,
            "names": [product.name for product in found],
            "short_names": [product.short_name or "" for product in found],
            "currencies": [product.currency for product in found],
            "actives": [product.active for product in found],
            "expected_days_only": [product.expected_day_only for product in found],
            "now": runtime.clock.now(),
        },
    )
    await connection.execute(_GONE, {"partner_id": partner_id, "ids": ids})


async def refresh_products(runtime: Runtime, connections: Connections, partner: Partner) -> Refreshed:
    """Reads the loan products from the partner's Mifos X and writes them. Idempotent. Raises what its client raises."""
    found = await (await connections.mifos(partner.id)).loan_products()

    async def work(connection: AsyncConnection) -> Refreshed:
        await connection.execute(_LOCK, {"partner_id": partner.id})
        before = {product.product_id: product for product in await list_products(connection, partner.id)}
        await write_products(connection, runtime, partner.id, found)
        after = await list_products(connection, partner.id)
        return Refreshed(
            products=after,
            new=[product.name for product in after if product.product_id not in before],
            gone=[
                product.name
                for product in after
                if not product.active_in_mifos and product.product_id in before and before[product.product_id].active_in_mifos
            ],
        )

    return await in_transaction(runtime.engine, work)


async def enable_product(runtime: Runtime, partner: Partner, product: str, limits: Limits, *, actor: str) -> Product:
    """Pays loans of `product` (its id, or its exact name) from now on, within `limits`. Audited; a repeat changes nothing.

    Raises NotFound for an unknown product, InvalidInput for an ambiguous name or limits that M-Pesa cannot pay, Conflict for
    a product that is not in Kenya shillings or no longer active in Mifos X, or whose loans another partner of the same Mifos X
    pays, or has under way: both would pay them.
    """
    check_limits(limits)

    async def work(connection: AsyncConnection) -> Product:
        chosen = await _chosen(connection, partner, product)
        if chosen.currency != "KES":
            raise Conflict(f"loan product {chosen.name!r} is in {chosen.currency}; M-Pesa pays Kenya shillings (KES) only")
        if not chosen.active_in_mifos:
            raise Conflict(
                f"loan product {chosen.name!r} is not active in Mifos X; activate it there, then run "
                f"`vault partner products {partner.name} --refresh`"
            )
        await _refuse_second_payer(connection, partner, chosen)
        return await _write(connection, runtime, partner, chosen, limits, actor)

    return await in_transaction(runtime.engine, work)


async def disable_product(runtime: Runtime, partner: Partner, product: str, *, actor: str) -> Product:
    """Pays no new loans of `product` from now on. Audited; a repeat changes nothing. Raises NotFound and InvalidInput."""

    async def work(connection: AsyncConnection) -> Product:
        chosen = await _chosen(connection, partner, product)
        return await _write(connection, runtime, partner, chosen, None, actor)

    return await in_transaction(runtime.engine, work)


async def _refuse_second_payer(connection: AsyncConnection, partner: Partner, product: Product) -> None:
    await connection.execute(_ONE_AT_A_TIME)
    which = {"partner_id": partner.id, "product_id": product.product_id}
    other = (await connection.execute(_PAID_BY_ANOTHER, which)).one_or_none()
    if other is None:
        return
    if other.enabled:
        first = f"disable it there first (`vault partner disable {other.name} {product.product_id}`)"
        raise Conflict(f"partner {other.name!r} has the same Mifos X and pays loan product {product.name!r}: {first}")
    raise Conflict(
        f"partner {other.name!r} has the same Mifos X, and its payouts of loan product {product.name!r} are not over: enable it "
        "here once `vault disbursements list` shows them disbursed"
    )


def check_limits(limits: Limits) -> None:
    """Raises InvalidInput if no loan, or no loan of the upper limit, could be paid within `limits`."""
    if limits.least < B2C_LEAST or limits.most > B2C_MOST:
        raise InvalidInput(f"limits {limits.least} to {limits.most}: M-Pesa pays from {B2C_LEAST} to {B2C_MOST} at a time")
    if limits.most < limits.least:
        raise InvalidInput(f"the upper limit {limits.most} is below the lower limit {limits.least}")
    if limits.daily is not None and limits.daily < limits.most:
        raise InvalidInput(f"the daily limit {limits.daily} is below the upper limit of one loan {limits.most}")


def find_product(products: Sequence[Product], wanted: str) -> Product:
    """The product with that id, or that exact name. Raises NotFound with what there is, InvalidInput if several have the name."""
    named = [product for product in products if product.name == wanted]
    if len(named) > 1:
        ids = ", ".join(str(product.product_id) for product in named)
        raise InvalidInput(f"{len(named)} loan products are named {wanted!r}; give one of the ids {ids}")
    by_id = [product for product in products if str(product.product_id) == wanted]
    for product in [*named, *by_id]:
        return product
    known = ", ".join(f"{product.product_id} ({product.name})" for product in products) or "none"
    raise NotFound(f"there is no loan product {wanted!r}; there are: {known}. New in Mifos X? Add --refresh to `products`")


async def _chosen(connection: AsyncConnection, partner: Partner, product: str) -> Product:
    await connection.execute(_LOCK, {"partner_id": partner.id})
    return find_product(await list_products(connection, partner.id), product)


async def _write(
    connection: AsyncConnection, runtime: Runtime, partner: Partner, chosen: Product, limits: Limits | None, actor: str
) -> Product:
    after = Product(
        product_id=chosen.product_id,
        name=chosen.name,
        short_name=chosen.short_name,
        currency=chosen.currency,
        active_in_mifos=chosen.active_in_mifos,
        enabled=limits is not None,
        limits=limits or chosen.limits,
    )
    if after == chosen:
        return chosen
    await connection.execute(
        _ENABLE,
        {"partner_id": partner.id, "product_id": chosen.product_id, "enabled": after.enabled, **_limit_columns(after.limits)},
    )
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act="product.enabled" if after.enabled else "product.disabled",
        subject=f"{partner.name} product {chosen.product_id}",
        partner_id=partner.id,
        before={"enabled": chosen.enabled, **_limit_columns(chosen.limits)},
        after={"enabled": after.enabled, **_limit_columns(after.limits)},
    )
    return after


def _limit_columns(limits: Limits | None) -> dict[str, int | None]:
    return {
        "min_cents": limits.least.cents if limits else None,
        "max_cents": limits.most.cents if limits else None,
        "daily_limit_cents": limits.daily.cents if limits and limits.daily else None,
    }


def _product(row: Row[Any]) -> Product:
    limits = None
    if row.min_cents is not None and row.max_cents is not None:
        daily = None if row.daily_limit_cents is None else Money(row.daily_limit_cents)
        limits = Limits(Money(row.min_cents), Money(row.max_cents), daily)
    return Product(
        product_id=row.product_id,
        name=row.name,
        short_name=row.short_name,
        currency=row.currency,
        active_in_mifos=row.active_in_mifos,
        enabled=row.enabled,
        limits=limits,
    )
