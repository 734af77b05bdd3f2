"""What the business pays Safaricom for a B2C payment, all of it excise included.

Source: Safaricom form b2c_tariff_form_august_2023.pdf. The form ends at 150,000; above it the last band is taken on.
"""

_BANDS_CENTS = (  # (up to and with this amount, fee)
    (100_00, 0),
    (1_500_00, 5_00),
    (5_000_00, 9_00),
    (20_000_00, 11_00),
    (250_000_00, 13_00),
)


def b2c_fee_cents(amount_cents: int) -> int:
    """The fee of a payment of `amount_cents`, in cents."""
    return next(fee for limit, fee in _BANDS_CENTS if amount_cents <= limit)
