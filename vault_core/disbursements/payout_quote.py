"""What paying one loan out will cost the partner's wallet."""

from collections.abc import Iterable
from datetime import date

from vault_core.disbursements.telling import text_parts
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.partners.system_fees import SystemFee
from vault_core.wallets.charges import ChargeQuote, TariffBook, quote_disbursement


def payout_quote(
    tariffs: TariffBook,
    partner: Partner,
    fees: Iterable[SystemFee],
    day: date,
    *,
    payout: Money,
    product_id: int | None,
    client_name: str,
    loan_account_no: str,
) -> ChargeQuote:
    """The quote of a payout on `day` (in Nairobi) by the partner's terms and fees, with the reserve for the client's text."""
    return quote_disbursement(
        tariffs,
        partner,
        fees,
        payout,
        day,
        product_id=product_id,
        sms_parts=text_parts(partner, client_name, payout, loan_account_no),
    )
