"""What a transaction costs, line by line: what is due, who pays it, and the row each line came from. Pure.

Price lists, system fees and a partner's terms come in as values. M-Pesa's fee is by band, with its excise inside or on top as its
list says; excise of the day is due on our system fee alone. What M-Pesa takes from the partner's own short code, or from its
customer, is shown and never charged to the wallet: it is not charged twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg
from vault_core.money import ZERO, Money
from vault_core.partners.partner import Partner
from vault_core.partners.system_fees import Service, SystemFee, part_price, system_fee
from vault_core.wallets.fee_parts import BASIS_POINTS, Rounding, rounded
from vault_core.wallets.tariffs import Tariff, TariffBand, TariffBook, load_tariffs

__all__ = [
    "ByBand",
    "ByParts",
    "ByRule",
    "ChargeLine",
    "ChargeQuote",
    "Due",
    "LineName",
    "Payer",
    "TariffBook",
    "charge_legs",
    "excise_on",
    "load_tariffs",
    "quote_collection",
    "quote_disbursement",
]

LineName = Literal["mpesa_fee", "system_fee", "excise", "sms"]
Payer = Literal["wallet", "short_code", "customer"]

_ACCOUNT_OF_LINE = {"mpesa_fee": "fees:mpesa", "system_fee": "fees:system", "excise": "tax:excise", "sms": "fees:sms"}


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a wallet's charge and the row it came from: a tariff band, or a system fee (both None: no fee is set)."""

    line: LineName
    amount: Money
    tariff_band_id: int | None = None
    system_fee_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ByBand:
    """Priced by a band of a price list. `excise_inside` is what of the amount that is paid is excise on M-Pesa's fee."""

    tariff: Tariff
    band: TariffBand
    excise_inside: Money = ZERO


@dataclass(frozen=True, slots=True)
class ByRule:
    """Priced by a system fee; None: the partner has none for it, and nothing is due."""

    fee: SystemFee | None


@dataclass(frozen=True, slots=True)
class ByParts:
    """A text of so many parts at the partner's price a part; `fee` None: none is set, and nothing is due."""

    parts: int
    price: Money
    fee: SystemFee | None


@dataclass(frozen=True, slots=True)
class Due:
    """One thing that is due for a transaction, who pays it, and where the price came from."""

    line: LineName
    amount: Money
    paid_by: Payer
    source: ByBand | ByRule | ByParts


@dataclass(frozen=True, slots=True)
class ChargeQuote:
    """What one transaction costs. `total` is what to hold; `charged` is what to take once it is done.

    They differ by the SMS: messages are charged one by one, when the gateway accepts them.
    """

    dues: tuple[Due, ...]

    @property
    def lines(self) -> tuple[ChargeLine, ...]:
        """The wallet's lines. One of zero is kept: it says that nothing was due from the wallet, and by which row."""
        return tuple(_line(due) for due in self.dues if due.paid_by != "customer")

    @property
    def total(self) -> Money:
        """All the wallet's lines, the SMS with them."""
        return self.paid_by("wallet")

    @property
    def charged(self) -> Money:
        """The wallet's lines without the SMS."""
        return _sum(due.amount for due in self.dues if due.paid_by == "wallet" and due.line != "sms")

    @property
    def confirmed(self) -> bool:
        """False when no source states a band that was used."""
        return all(due.source.band.confirmed for due in self.dues if isinstance(due.source, ByBand))

    def paid_by(self, payer: Payer) -> Money:
        """What `payer` pays in all."""
        return _sum(due.amount for due in self.dues if due.paid_by == payer)


def quote_disbursement(
    tariffs: TariffBook,
    partner: Partner,
    fees: Iterable[SystemFee],
    payout: Money,
    day: date,
    *,
    product_id: int | None,
    sms_parts: int,
) -> ChargeQuote:
    """The charges of paying `payout` on `day` (in Nairobi), by the partner's terms and system fees.

    Raises ConfigurationError when no tariff covers the day or the amount.
    """
    fee, source = _mpesa(tariffs, partner.b2c_tariff, day, payout)
    return ChargeQuote(
        (
            Due("mpesa_fee", fee, partner.mpesa_fee_paid_by, source),
            *_our_fee(tariffs, fees, payout, day, "disbursement", product_id),
            _text(fees, sms_parts, day),
        )
    )


def quote_collection(
    tariffs: TariffBook, partner: Partner, fees: Iterable[SystemFee], amount: Money, day: date, *, sms_parts: int | None = None
) -> ChargeQuote:
    """The charges of a payment of `amount` to the pay bill on `day` (in Nairobi), by its bouquet and the partner's system fees.

    `sms_parts` None leaves the receipt's text out: it is charged by itself. Raises ConfigurationError as `quote_disbursement`.
    """
    fee, source = _mpesa(tariffs, f"c2b_{partner.c2b_bouquet}", day, amount)
    dues = [Due("mpesa_fee", fee, partner.c2b_fee_paid_by, source)]
    if source.band.customer_fee:
        theirs = source.tariff.with_excise(source.band.customer_fee)
        dues.append(Due("mpesa_fee", theirs.paid, "customer", ByBand(source.tariff, source.band, theirs.excise)))
    dues += _our_fee(tariffs, fees, amount, day, "collection", None)
    if sms_parts is not None:
        dues.append(_text(fees, sms_parts, day))
    return ChargeQuote(tuple(dues))


def excise_on(fee: Money, rate_basis_points: int, rounding: Rounding = "half_up_cent") -> Money:
    """Excise on a fee (not negative), rounded as its list says."""
    return rounded(fee.cents * rate_basis_points, BASIS_POINTS, rounding)


def charge_legs(partner_id: UUID, lines: Sequence[ChargeLine]) -> tuple[Leg, ...]:
    """The ledger legs of charge lines: the wallet is debited, each line's account credited. Lines of zero have no leg.

    For a disbursement pass the lines without 'sms'. Empty when nothing is due: then there is nothing to post, and a hold is
    released instead of captured.
    """
    credited = tuple(Leg(AccountRef(None, _ACCOUNT_OF_LINE[line.line]), -line.amount.cents) for line in lines if line.amount)
    if not credited:
        return ()
    return (Leg(AccountRef(partner_id, "wallet"), -sum(leg.amount_cents for leg in credited)), *credited)


def _mpesa(tariffs: TariffBook, product: str, day: date, amount: Money) -> tuple[Money, ByBand]:
    tariff, band = tariffs.tariff("safaricom", product, day), tariffs.band("safaricom", product, day, amount)
    price = tariff.price(band, amount)
    return price.paid, ByBand(tariff, band, price.excise)


def _our_fee(
    tariffs: TariffBook, fees: Iterable[SystemFee], amount: Money, day: date, service: Service, product_id: int | None
) -> tuple[Due, Due]:
    fee, rule = system_fee(fees, amount, day, service, product_id)
    tariff, band = tariffs.tariff("kra", "excise_fees", day), tariffs.band("kra", "excise_fees", day, fee)
    return (
        Due("system_fee", fee, "wallet", ByRule(rule)),
        Due("excise", excise_on(fee, band.rate_basis_points, tariff.rounding), "wallet", ByBand(tariff, band)),
    )


def _text(fees: Iterable[SystemFee], parts: int, day: date) -> Due:
    price, rule = part_price(fees, day)
    return Due("sms", price * parts, "wallet", ByParts(parts, price, rule))


def _line(due: Due) -> ChargeLine:
    band = due.source.band.id if isinstance(due.source, ByBand) else None
    rule = due.source.fee.id if not isinstance(due.source, ByBand) and due.source.fee is not None else None
    return ChargeLine(due.line, due.amount if due.paid_by == "wallet" else ZERO, band, rule)


def _sum(amounts: Iterable[Money]) -> Money:
    return sum(amounts, ZERO)
