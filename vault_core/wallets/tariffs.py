"""Dated price lists as values: read once with `load_tariffs`, looked up without I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import ConfigurationError
from vault_core.money import ZERO, Money
from vault_core.wallets.fee_parts import BASIS_POINTS, FeeParts, Rounding, fee_parts, rounded

SHILLING = Money.shillings(1)
NO_END = Money(9_000_000_000_000_000)  # where a band ends that has no end


@dataclass(frozen=True, slots=True)
class TariffBand:
    """What amounts from `low` to `high`, both included, cost: a fee, or a rate in basis points (1,500 is 15 %).

    `fee` is what the business pays, `customer_fee` what M-Pesa takes from its customer besides. `confirmed` is False where the
    source does not state the band and we carried a figure on; `note` says why. `id` is 0 until the list is in the database.
    """

    id: int
    low: Money
    high: Money
    fee: Money
    rate_basis_points: int
    confirmed: bool
    customer_fee: Money = ZERO
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tariff:
    """One price list: of a provider's product, from `valid_from` to before `valid_to` (None: until further notice).

    Its fees carry excise of `excise_rate_basis_points`, inside them if `excise_included`, else on top. `step` is
    the unit of its amounts: one band ends a step before the next begins.
    """

    provider: str
    product: str
    valid_from: date
    valid_to: date | None
    source: str
    bands: tuple[TariffBand, ...]
    excise_rate_basis_points: int = 0
    excise_included: bool = False
    rounding: Rounding = "half_up_cent"
    step: Money = SHILLING
    note: str = ""
    imported_by: str = ""

    @property
    def name(self) -> str:
        """As it is called in messages: 'safaricom b2c of 2023-08-01'."""
        return f"{self.provider} {self.product} of {self.valid_from}"

    @property
    def unconfirmed(self) -> int:
        """How many of its bands no source states."""
        return sum(not band.confirmed for band in self.bands)

    def holds_on(self, day: date) -> bool:
        """Whether the list is in force on `day` (a day in Nairobi)."""
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)

    def price(self, band: TariffBand, amount: Money) -> FeeParts:
        """What the business pays for `amount`, which `band` prices: its fee, or its rate of the amount, with the excise."""
        by_rate = amount.cents * band.rate_basis_points
        return self.with_excise(rounded(by_rate, BASIS_POINTS, self.rounding) if band.rate_basis_points else band.fee)

    def with_excise(self, fee: Money) -> FeeParts:
        """A fee of this list with its excise, which lies inside it or comes on top, as the list says."""
        return fee_parts(fee, self.excise_rate_basis_points, included=self.excise_included, rounding=self.rounding)


class TariffBook:
    """All price lists. Where two of one product hold on a day, the later one does (the database keeps no two such)."""

    def __init__(self, tariffs: Iterable[Tariff]) -> None:
        self.tariffs = tuple(sorted(tariffs, key=lambda tariff: tariff.valid_from, reverse=True))
        self._in_force: dict[tuple[str, str, date], Tariff] = {}  # found before: a batch asks for the same ones a hundred times

    def tariff(self, provider: str, product: str, day: date) -> Tariff:
        """The list in force on `day`. Raises ConfigurationError naming the product and day that none covers."""
        found = self._in_force.get((provider, product, day))
        if found is None:
            found = self._in_force[provider, product, day] = self._find(provider, product, day)
        return found

    def _find(self, provider: str, product: str, day: date) -> Tariff:
        for one in self.tariffs:
            if one.provider == provider and one.product == product and one.holds_on(day):
                return one
        raise ConfigurationError(f"no {provider} {product} tariff holds on {day}: import the price list of that time")

    def band(self, provider: str, product: str, day: date, amount: Money) -> TariffBand:
        """The band of `amount` on `day`. Raises ConfigurationError naming the product, day and amount no list covers."""
        tariff = self.tariff(provider, product, day)
        for band in tariff.bands:
            if band.low.cents <= amount.cents <= band.high.cents:
                return band
        raise ConfigurationError(f"the {provider} {product} tariff of {tariff.valid_from} has no band for {amount}")


_LISTS = text(
    """
    SELECT id, provider, product, valid_from, valid_to, source, note, step_cents, excise_rate_basis_points, excise_included,
           rounding, imported_by
    FROM tariffs WHERE withdrawn_at IS NULL ORDER BY id
    """
)
_BANDS = text(
    """
    SELECT tariff_id, id, from_cents, to_cents, fee_cents, customer_fee_cents, rate_basis_points, confirmed, note
    FROM tariff_bands WHERE tariff_id = ANY(:tariffs) ORDER BY tariff_id, from_cents
    """
)
_KNOWN_BANDS = "bands of tariffs"


async def load_tariffs(connection: AsyncConnection) -> TariffBook:
    """Every price list in the database but those that were withdrawn before they came into use.

    Which lists there are and from when to when they hold is read each time. The bands of a list, which the database lets nobody
    change, are read once a database connection.
    """
    lists = (await connection.execute(_LISTS)).all()
    known: dict[int, tuple[TariffBand, ...]] = connection.info.setdefault(_KNOWN_BANDS, {})
    if missing := [row.id for row in lists if row.id not in known]:
        rows = await connection.execute(_BANDS, {"tariffs": missing})
        known |= {tariff: tuple(map(_band, bands)) for tariff, bands in groupby(rows, key=lambda row: row.tariff_id)}
    return TariffBook(_tariff(row, known[row.id]) for row in lists)


def _tariff(head: Row[Any], bands: tuple[TariffBand, ...]) -> Tariff:
    return Tariff(
        provider=head.provider,
        product=head.product,
        valid_from=head.valid_from,
        valid_to=head.valid_to,
        source=head.source,
        bands=bands,
        excise_rate_basis_points=head.excise_rate_basis_points,
        excise_included=head.excise_included,
        rounding=head.rounding,
        step=Money(head.step_cents),
        note=head.note,
        imported_by=head.imported_by,
    )


def _band(row: Row[Any]) -> TariffBand:
    return TariffBand(
        id=row.id,
        low=Money(row.from_cents),
        high=Money(row.to_cents),
        fee=Money(row.fee_cents),
        rate_basis_points=row.rate_basis_points,
        confirmed=row.confirmed,
        customer_fee=Money(row.customer_fee_cents),
        note=row.note,
    )
