"""What paying one loan out will cost the partner's wallet."""

from datetime import date

from vault_core.disbursements.telling import sms_reserve
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.wallets.charges import ChargeQuote, TariffBook, quote


def payout_quote(
    tariffs: TariffBook, partner: Partner, day: date, *, payout: Money, client_name: str, loan_account_no: str
) -> ChargeQuote:
    """The quote of a payout on `day` (in Nairobi) by the partner's terms, with the reserve for the client's text."""
    return quote(
        tariffs,
        payout,
        day,
        system_fee=partner.system_fee,
        mpesa_fee_paid_by=partner.mpesa_fee_paid_by,
        sms_reserve=sms_reserve(partner, client_name, payout, loan_account_no),
    )
