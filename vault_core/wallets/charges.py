"""What a disbursement costs a partner's wallet, line by line. Pure: the price lists come in as values."""

from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg
from vault_core.money import ZERO, Money
from vault_core.wallets.tariffs import TariffBook, load_tariffs

__all__ = [
    "ChargeLine",
    "ChargeQuote",
    "LineName",
    "MpesaFeePaidBy",
    "TariffBook",
    "charge_legs",
    "excise_on",
    "load_tariffs",
    "quote",
]

LineName = Literal["mpesa_fee", "system_fee", "excise", "sms"]
MpesaFeePaidBy = Literal["wallet", "short_code"]

_ACCOUNT_OF_LINE = {"mpesa_fee": "fees:mpesa", "system_fee": "fees:system", "excise": "tax:excise", "sms": "fees:sms"}
_BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a charge and the tariff band it came from (None: from the partner's own terms)."""

    line: LineName
    amount: Money
    tariff_band_id: int | None


@dataclass(frozen=True, slots=True)
class ChargeQuote:
    """What one disbursement costs. `total` is what to hold; `charged` is what to capture once it is paid.

    They differ by the SMS reserve: messages are charged one by one, when the gateway accepts them. `confirmed` is False when a
    band is not stated by its source.
    """

    lines: tuple[ChargeLine, ...]
    confirmed: bool = True

    @property
    def total(self) -> Money:
        """All lines, the SMS reserve with them."""
        return sum((line.amount for line in self.lines), ZERO)

    @property
    def charged(self) -> Money:
        """The lines that are taken when the disbursement is paid."""
        return sum((line.amount for line in self.lines if line.line != "sms"), ZERO)


def quote(
    tariffs: TariffBook,
    payout: Money,
    day: date,
    *,
    system_fee: Money,
    mpesa_fee_paid_by: MpesaFeePaidBy | str,
    sms_reserve: Money,
    product: str = "b2c",
) -> ChargeQuote:
    """The charges of paying `payout` on `day` (in Nairobi). A line of zero is kept: it says that nothing was due.

    M-Pesa's fee is by band, its excise included; it is zero for the wallet when the partner's short code pays it to M-Pesa
    (`mpesa_fee_paid_by` 'short_code'), so that it is not charged twice. Excise of the day is due on our system fee alone.
    Raises ConfigurationError when no tariff covers the day or the amount.
    """
    band = tariffs.band("safaricom", product, day, payout)
    excise_band = tariffs.band("kra", "excise_fees", day, system_fee)
    mpesa_fee = band.fee if mpesa_fee_paid_by == "wallet" else ZERO
    return ChargeQuote(
        lines=(
            ChargeLine("mpesa_fee", mpesa_fee, band.id),
            ChargeLine("system_fee", system_fee, None),
            ChargeLine("excise", excise_on(system_fee, excise_band.rate_basis_points), excise_band.id),
            ChargeLine("sms", sms_reserve, None),
        ),
        confirmed=band.confirmed,
    )


def excise_on(fee: Money, rate_basis_points: int) -> Money:
    """Excise on a fee (not negative), rounded half up to the cent."""
    return Money((fee.cents * rate_basis_points + _BASIS_POINTS // 2) // _BASIS_POINTS)


def charge_legs(partner_id: UUID, lines: tuple[ChargeLine, ...] | list[ChargeLine]) -> tuple[Leg, ...]:
    """The ledger legs of charge lines: the wallet is debited, each line's account credited. Lines of zero have no leg.

    For a disbursement pass the lines without 'sms'. Empty when nothing is due: then there is nothing to post, and a hold is
    released instead of captured.
    """
    credited = tuple(Leg(AccountRef(None, _ACCOUNT_OF_LINE[line.line]), -line.amount.cents) for line in lines if line.amount)
    if not credited:
        return ()
    return (Leg(AccountRef(partner_id, "wallet"), -sum(leg.amount_cents for leg in credited)), *credited)
