"""Dated price lists as values: read once with `load_tariffs`, looked up without I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import ConfigurationError
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class TariffBand:
    """What amounts from `low` to `high`, both included, cost: a fee, or a rate in basis points (1,500 is 15 %).

    `confirmed` is False where the source does not state the band and we carried a figure on.
    """

    id: int
    low: Money
    high: Money
    fee: Money
    rate_basis_points: int
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Tariff:
    """One price list: of a provider's product, from `valid_from` to before `valid_to` (None: until further notice)."""

    provider: str
    product: str
    valid_from: date
    valid_to: date | None
    source: str
    bands: tuple[TariffBand, ...]

    def holds_on(self, day: date) -> bool:
        """Whether the list is in force on `day` (a day in Nairobi)."""
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


class TariffBook:
    """All price lists. Where two of one product hold on a day, the later one does."""

    def __init__(self, tariffs: Iterable[Tariff]) -> None:
        self.tariffs = tuple(sorted(tariffs, key=lambda tariff: tariff.valid_from, reverse=True))

    def band(self, provider: str, product: str, day: date, amount: Money) -> TariffBand:
        """The band of `amount` on `day`. Raises ConfigurationError naming the product, day and amount no list covers."""
        tariff = next(
            (one for one in self.tariffs if one.provider == provider and one.product == product and one.holds_on(day)), None
        )
        if tariff is None:
            raise ConfigurationError(f"no {provider} {product} tariff holds on {day}: import the price list of that time")
        for band in tariff.bands:
            if band.low <= amount <= band.high:
                return band
        raise ConfigurationError(f"the {provider} {product} tariff of {tariff.valid_from} has no band for {amount}")


_LOAD = text(
    """
    SELECT t.id AS tariff_id, t.provider, t.product, t.valid_from, t.valid_to, t.source,
           b.id, b.from_cents, b.to_cents, b.fee_cents, b.rate_basis_points, b.confirmed
    FROM tariffs t JOIN tariff_bands b ON b.tariff_id = t.id ORDER BY t.id, b.from_cents
    """
)


async def load_tariffs(connection: AsyncConnection) -> TariffBook:
    """Every price list in the database."""
    rows = (await connection.execute(_LOAD)).all()
    heads = {row.tariff_id: row for row in rows}
    return TariffBook(
        Tariff(
            head.provider,
            head.product,
            head.valid_from,
            head.valid_to,
            head.source,
            tuple(
                TariffBand(
                    row.id, Money(row.from_cents), Money(row.to_cents), Money(row.fee_cents), row.rate_basis_points, row.confirmed
                )
                for row in rows
                if row.tariff_id == tariff_id
            ),
        )
        for tariff_id, head in heads.items()
    )
