"""The price lists that hold today: Safaricom B2C (August 2023) and excise on fees (July 2023)."""

from alembic import op

from vault_core.database import run_sql

revision = "0008"
down_revision = "0007"

_FORM = "Safaricom b2c_tariff_form_august_2023.pdf, created 2023-08-01, public; same figures in a 2025 copy"
_ACT = "Finance Act 2023, in force July 2023 (M-Pesa tariff reissued 2023-07-29); 15 % retained by the budget statement of 2024-06-13"

# Shillings: from, to, fee of 'b2c', fee of 'b2c_withdrawal_paid'. The business pays; the fees include excise.
_BANDS = (
    (1, 49, 0, 0),
    (50, 100, 0, 11),
    (101, 1_500, 5, 34),
    (1_501, 2_500, 9, 38),
    (2_501, 3_500, 9, 61),
    (3_501, 5_000, 9, 78),
    (5_001, 7_500, 11, 98),
    (7_501, 10_000, 11, 126),
    (10_001, 15_000, 11, 178),
    (15_001, 20_000, 11, 196),
    (20_001, 35_000, 13, 210),
    (35_001, 50_000, 13, 291),
    (50_001, 150_000, 13, 322),
)
# The form stops at 150,000 though 250,000 may be paid since: carried on from the last band, and marked.
_UNCONFIRMED = (150_001, 250_000, 13, 322)


def upgrade() -> None:
    products = (("b2c", 2), ("b2c_withdrawal_paid", 3))
    tariffs = ", ".join(f"('safaricom', '{product}', DATE '2023-08-01', '{_FORM}')" for product, _ in products)
    bands = ", ".join(
        f"('{product}', {band[0] * 100}, {band[1] * 100}, {band[column] * 100}, 0, {band is not _UNCONFIRMED})"
        for product, column in products
        for band in (*_BANDS, _UNCONFIRMED)
    )
    run_sql(
        op.get_bind(),
        f"""
        INSERT INTO tariffs (provider, product, valid_from, source) VALUES
            {tariffs}, ('kra', 'excise_fees', DATE '2023-07-01', '{_ACT}');
        INSERT INTO tariff_bands (tariff_id, from_cents, to_cents, fee_cents, rate_basis_points, confirmed)
        SELECT t.id, b.from_cents, b.to_cents, b.fee_cents, b.rate, b.confirmed
        FROM (VALUES {bands}, ('excise_fees', 0, 9000000000000000, 0, 1500, true))
             AS b(product, from_cents, to_cents, fee_cents, rate, confirmed)
        JOIN tariffs t ON t.product = b.product;
        """,
    )
