"""What we charge a partner for a transaction or a text: dated fees by service and loan product, and the rule that chooses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money

Service = Literal["disbursement", "collection", "sms"]
SERVICES: tuple[Service, ...] = ("disbursement", "collection", "sms")

BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class FeeTerms:
    """The price itself: `flat` plus `rate_basis_points` of the amount, then at least `least`, then at most `most`.

    `product_id` None: every product of the service. A collection is charged when it comes, before its product is known, so a
    product's own price is for disbursements only. A text costs `flat` a part. Raises InvalidInput for terms that cannot be meant.
    """

    service: Service
    product_id: int | None = None
    flat: Money = ZERO
    rate_basis_points: int = 0
    least: Money = ZERO
    most: Money | None = None

    def __post_init__(self) -> None:
        if self.service == "collection" and self.product_id is not None:
            raise InvalidInput("a collection is charged before its loan product is known: leave the product out")
        if self.service == "sms" and (self.product_id, self.rate_basis_points, self.least, self.most) != (None, 0, ZERO, None):
            raise InvalidInput("a text has one price a part: leave product, percentage, min and max out")
        if not 0 <= self.rate_basis_points <= BASIS_POINTS:
            raise InvalidInput("the percentage is out of bounds; write it from 0 to 100, like 0.5")
        if min(self.flat.cents, self.least.cents) < 0:
            raise InvalidInput("a fee is never negative")
        if self.most is not None and self.most < self.least:
            raise InvalidInput(f"max {self.most} is below min {self.least}")

    def fee(self, amount: Money) -> Money:
        """The fee of a transaction of `amount` (not negative). The rate's part is rounded half up to the cent."""
        by_rate = (2 * amount.cents * self.rate_basis_points + BASIS_POINTS) // (2 * BASIS_POINTS)
        fee = max(self.flat.cents + by_rate, self.least.cents)
        return Money(fee if self.most is None else min(fee, self.most.cents))

    def __str__(self) -> str:
        parts = [str(self.flat)] if self.flat or not self.rate_basis_points else []
        if self.rate_basis_points:
            parts.append(f"{percent_text(self.rate_basis_points)} %")
        bounds = [f"at least {self.least}"] if self.least else []
        bounds += [f"at most {self.most}"] if self.most is not None else []
        return ", ".join([" + ".join(parts), *bounds])


@dataclass(frozen=True, slots=True)
class SystemFee:
    """One row of `system_fees`: terms that hold from `valid_from` to before `valid_to` (None: until further notice)."""

    id: UUID
    partner_id: UUID
    terms: FeeTerms
    valid_from: date
    valid_to: date | None
    set_by: str

    def holds_on(self, day: date) -> bool:
        """Whether it holds on `day` (a day in Nairobi). Never, if it was taken back before its first day."""
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


def system_fee(
    rules: Iterable[SystemFee], amount: Money, day: date, service: Service, product_id: int | None = None
) -> tuple[Money, SystemFee | None]:
    """What a transaction of `amount` on `day` costs, and the rule that says so: the product's own, else the service's.

    Without a rule nothing is due. `rules` are one partner's.
    """
    general: SystemFee | None = None
    for rule in rules:
        terms = rule.terms
        if terms.service != service or terms.product_id not in (None, product_id) or not rule.holds_on(day):
            continue
        if terms.product_id is not None:
            return terms.fee(amount), rule
        general = general or rule
    return (ZERO, None) if general is None else (general.terms.fee(amount), general)


def part_price(rules: Iterable[SystemFee], day: date) -> tuple[Money, SystemFee | None]:
    """What one part of a text costs on `day`, and the rule that says so. Without a rule nothing. `rules` are one partner's."""
    return system_fee(rules, ZERO, day, "sms")


def current_fees(fees: Iterable[SystemFee], today: date) -> tuple[SystemFee, ...]:
    """Those in force on `today`, and those set for a later day."""
    return tuple(fee for fee in fees if fee.valid_to is None or fee.valid_to > today)


def percent_text(basis_points: int) -> str:
    """Basis points as a percentage: 50 is '0.5'."""
    return f"{basis_points // 100}.{basis_points % 100:02d}".rstrip("0").rstrip(".")


_COLUMNS = """
    id, partner_id, service, product_id, flat_cents, rate_basis_points, min_cents, max_cents, valid_from, valid_to, set_by
"""
_LOAD = text(
    f"SELECT {_COLUMNS} FROM system_fees WHERE partner_id = ANY(:ids) "  # noqa: S608 - the columns stand above
    "AND (valid_to IS NULL OR valid_to > valid_from) ORDER BY service DESC, product_id NULLS FIRST, valid_from"
)
_INSERT = text(
    """
    INSERT INTO system_fees (id, partner_id, service, product_id, flat_cents, rate_basis_points, min_cents, max_cents, valid_from,
                             set_by, set_at)
    VALUES (:id, :partner_id, :service, :product_id, :flat_cents, :rate_basis_points, :min_cents, :max_cents, :valid_from,
            :set_by, :now)
    """
)


async def load_system_fees(connection: AsyncConnection, partner_ids: Sequence[UUID]) -> Mapping[UUID, tuple[SystemFee, ...]]:
    """The rules of each partner, past ones too, by service, product and first day. A partner without rules has none."""
    found: dict[UUID, list[SystemFee]] = {partner_id: [] for partner_id in partner_ids}
    for row in await connection.execute(_LOAD, {"ids": list(found)}):
        found[row.partner_id].append(_fee(row))
    return {partner_id: tuple(rules) for partner_id, rules in found.items()}


async def write_system_fees(
    connection: AsyncConnection,
    partner_id: UUID,
    fees: Sequence[tuple[UUID, FeeTerms]],
    *,
    valid_from: date,
    actor: str,
    now: datetime,
) -> None:
    """Writes the rules (id and terms), each from `valid_from` until further notice. Audit is the caller's."""
    rows = [
        {"id": fee_id, "partner_id": partner_id, "valid_from": valid_from, "set_by": actor, "now": now, **fee_columns(terms)}
        for fee_id, terms in fees
    ]
    if rows:
        await connection.execute(_INSERT, rows)


def fee_columns(terms: FeeTerms) -> dict[str, Any]:
    """The terms as the columns of `system_fees`, for rows, audit and JSON."""
    return {
        "service": terms.service,
        "product_id": terms.product_id,
        "flat_cents": terms.flat.cents,
        "rate_basis_points": terms.rate_basis_points,
        "min_cents": terms.least.cents,
        "max_cents": None if terms.most is None else terms.most.cents,
    }


def _fee(row: Row[Any]) -> SystemFee:
    return SystemFee(
        id=row.id,
        partner_id=row.partner_id,
        terms=FeeTerms(
            service=row.service,
            product_id=row.product_id,
            flat=Money(row.flat_cents),
            rate_basis_points=row.rate_basis_points,
            least=Money(row.min_cents),
            most=None if row.max_cents is None else Money(row.max_cents),
        ),
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        set_by=row.set_by,
    )
