"""What Safaricom takes for a payment, all of it excise included. Whole cents.

B2C: Safaricom form b2c_tariff_form_august_2023.pdf, plain and with the withdrawal paid ahead; it ends at 150,000, and the
last band is taken on. C2B: the pay bill's total fee and the customer's part under Mgao (money.ke "Mpesa Paybill Charges 2024").
"""

from dataclasses import dataclass

_B2C = (  # (up to and with this amount, fee) in shillings
    (100, 0),
    (1_500, 5),
    (5_000, 9),
    (20_000, 11),
    (250_000, 13),
)
_WITHDRAWAL_PAID = (
    (49, 0),
    (100, 11),
    (1_500, 34),
    (2_500, 38),
    (3_500, 61),
    (5_000, 78),
    (7_500, 98),
    (10_000, 126),
    (15_000, 178),
    (20_000, 196),
    (35_000, 210),
    (50_000, 291),
    (250_000, 322),
)
_C2B = (  # (up to and with this amount, total, the customer's part under Mgao)
    (100, 0, 0),
    (500, 5, 5),
    (1_000, 10, 10),
    (1_500, 15, 10),
    (2_500, 20, 13),
    (3_500, 25, 16),
    (5_000, 34, 16),
    (7_500, 42, 17),
    (10_000, 48, 18),
    (15_000, 57, 18),
    (20_000, 62, 19),
    (25_000, 67, 20),
    (30_000, 72, 20),
    (35_000, 83, 21),
    (40_000, 99, 23),
    (45_000, 103, 23),
    (250_000, 108, 24),
)
B2C_TARIFFS = {"b2c": _B2C, "b2c_withdrawal_paid": _WITHDRAWAL_PAID}
BOUQUETS = ("business", "mgao", "customer")


@dataclass(frozen=True, slots=True)
class Fee:
    """What the business and its customer pay, and the band by its upper end in shillings."""

    business_cents: int
    customer_cents: int
    band: int


def b2c_fee(amount_cents: int, tariff: str = "b2c") -> Fee:
    """The fee of paying out `amount_cents`."""
    top, fee = next((top, fee) for top, fee in B2C_TARIFFS[tariff] if amount_cents <= top * 100)
    return Fee(fee * 100, 0, top)


def c2b_fee(amount_cents: int, bouquet: str) -> Fee:
    """The fee of a payment of `amount_cents` to a pay bill. Nobody pays above the last band: M-Pesa carries no more."""
    top, total, mgao = next((row for row in _C2B if amount_cents <= row[0] * 100), _C2B[-1])
    customer = {"business": total, "mgao": mgao, "customer": 0}[bouquet]
    return Fee((total - customer) * 100, customer * 100, top)
