"""M-Pesa's question whether a payment may be taken: the answer, as a pure rule over local data (reference/daraja.md section 4.2).

Only what is certain is refused. The codes are those of Daraja's "External Validation"; a refusal's text is always "Rejected".
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from vault_core.clients.daraja_messages import C2BConfirmation
from vault_core.clients.mifos_values import AccountState
from vault_core.collections.matching import CURRENCY, Match, Matched
from vault_core.partners.collection_settings import CollectionSettings

_DIGITS = re.compile(r"\+?[0-9]+")
_MAY_CHANGE_ANY_TIME = {AccountState.PENDING, AccountState.APPROVED, AccountState.TRANSFER, AccountState.OTHER}


class Code(StrEnum):
    """What M-Pesa is told."""

    ACCEPTED = "0"
    PHONE = "C2B00011"  # invalid MSISDN
    ACCOUNT = "C2B00012"  # invalid account number
    AMOUNT = "C2B00013"
    CUSTOMER = "C2B00014"  # invalid KYC details
    SHORT_CODE = "C2B00015"
    OTHER = "C2B00016"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and why. `known`: False where it could not be told and the partner's setting decided. Holds no personal data."""

    code: Code
    reason: str
    known: bool = True

    @property
    def refused(self) -> bool:
        """Whether the payment is not to be taken."""
        return self.code is not Code.ACCEPTED

    @property
    def plain(self) -> bool:
        """Whether it is a yes that nobody needs to hear about."""
        return self.known and not self.refused


YES = Verdict(Code.ACCEPTED, "accepted")


def judge_question(asked: C2BConfirmation, short_code: str, settings: CollectionSettings) -> Verdict | None:
    """What can be said without looking for the account; None: it must be looked for. `short_code` is the partner's."""
    if settings.validation == "off":
        return YES
    if asked.short_code != short_code:
        return Verdict(Code.SHORT_CODE, f"short code {asked.short_code} is not the partner's")
    if settings.least is not None and asked.amount < settings.least:
        return Verdict(Code.AMOUNT, f"{asked.amount} is under the least payment of {settings.least}")
    if settings.most is not None and asked.amount > settings.most:
        return Verdict(Code.AMOUNT, f"{asked.amount} is above the greatest payment of {settings.most}")
    if asked.phone_text is not None and _DIGITS.fullmatch(asked.phone_text) and asked.phone is None:
        return Verdict(Code.PHONE, "the payer's number, sent in clear, is no Kenyan mobile number")
    return None


def judge_match(match: Match, settings: CollectionSettings, *, believed: bool) -> Verdict:
    """The answer by what the mirror has of the account. `believed`: it is young enough to say that an account does not exist.

    An ambiguous reference is taken: there is such an account, and a person will tell which.
    """
    if isinstance(match, Matched):
        return YES
    if not match.bearers:
        return Verdict(Code.ACCOUNT, match.reason) if believed else unknown("the copy of the accounts is too old", settings)
    if any(one.active and one.currency == CURRENCY for one in match.bearers):
        return YES
    if not believed or any(one.state in _MAY_CHANGE_ANY_TIME for one in match.bearers):
        return unknown(match.reason, settings)
    if settings.closed_accounts == "accept":
        return YES
    blocked = all(one.state is AccountState.BLOCKED for one in match.bearers)
    return Verdict(Code.CUSTOMER if blocked else Code.ACCOUNT, match.reason)


def unknown(why: str, settings: CollectionSettings) -> Verdict:
    """The answer where it cannot be told: the partner's setting decides."""
    code = Code.ACCEPTED if settings.when_unknown == "accept" or settings.validation == "off" else Code.OTHER
    return Verdict(code, f"not known: {why}", known=False)
