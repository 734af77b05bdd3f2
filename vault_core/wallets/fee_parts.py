"""A provider's fee in its parts: the net fee and the excise on it, rounded as the price list says. Pure.

Excise is due on fees, not on the principal (reference/bank_sms_ledger.md section 5.3). A list states whether its fees carry it
inside, as Safaricom's do.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from vault_core.money import Money

# What a computed part (excise, a fee by rate) is rounded to. Where the unit is the shilling, the list's fees are whole shillings.
Rounding = Literal["half_up_cent", "half_up_shilling", "up_shilling"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

BASIS_POINTS = 10_000
_SHILLING = 100


@dataclass(frozen=True, slots=True)
class FeeParts:
    """A fee without its excise, and the excise. Their sum is what is paid."""

    net: Money
    excise: Money

    @property
    def paid(self) -> Money:
        """What is paid in all."""
        return self.net + self.excise


def fee_parts(fee: Money, rate_basis_points: int, *, included: bool, rounding: Rounding) -> FeeParts:
    """`fee` (not negative) of a list whose excise is `rate_basis_points`, split.

    Included: the fee is what is paid; its excise is fee * rate / (1 + rate), rounded, and the net fee is the rest. Not included:
    the fee is net, and fee * rate, rounded, comes on top. Either way the rounding falls on the excise, never on what is paid.
    """
    if included:
        excise = rounded(fee.cents * rate_basis_points, BASIS_POINTS + rate_basis_points, rounding)
        return FeeParts(fee - excise, excise)
    return FeeParts(fee, rounded(fee.cents * rate_basis_points, BASIS_POINTS, rounding))


def rounded(numerator: int, denominator: int, rounding: Rounding) -> Money:
    """`numerator` / `denominator` cents (not negative) as Money: half up to the cent or shilling, or up to the next shilling."""
    unit = 1 if rounding == "half_up_cent" else _SHILLING
    whole = denominator * unit
    if rounding == "up_shilling":
        return Money(-(-numerator // whole) * unit)
    return Money((2 * numerator + whole) // (2 * whole) * unit)
