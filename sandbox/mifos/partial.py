"""The `fields` parameter: it trims only the names the server counts as response parameters, at every depth."""

from collections.abc import Mapping
from typing import Any

from sandbox.asgi import Request
from sandbox.mifos.errors import unsupported_parameters


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOAN_FIELDS = _names(
    "id accountNo externalId status clientId group loanProductId loanProductName isLoanProductLinkedToFloatingRate "
    "currency principal termFrequency termPeriodFrequencyType numberOfRepayments repaymentEvery "
    "repaymentFrequencyType interestRatePerPeriod interestRateFrequencyType annualInterestRate "
    "isFloatingInterestRate amortizationType interestType interestCalculationPeriodType "
    "transactionProcessingStrategyCode transactionProcessingStrategyName syncDisbursementWithMeeting timeline "
    "canUseForTopup isTopup summary transactions repaymentSchedule collateral charges "
)
CLIENT_FIELDS = _names(
    "id accountNo externalId status active activationDate firstname lastname displayName mobileNo gender "
    "clientType clientClassification isStaff "
    "officeId officeName timeline legalForm groups savingsProductName emailAddress "
)
SAVINGS_FIELDS = _names(
    "id accountNo externalId clientId clientName savingsProductId savingsProductName status currency "
    "nominalAnnualInterestRate interestCompoundingPeriodType interestCalculationType "
    "interestCalculationDaysInYearType withdrawalFeeForTransfers withHoldTax summary transactions charges "
)


def partial(view: dict[str, Any], request: Request, known: frozenset[str]) -> dict[str, Any]:
    """`view` with what `fields` leaves of it. Raises the 400 for a name that is not a response parameter."""
    text = request.query.get("fields")
    if not text:
        return view
    asked = {name.strip() for name in text.split(",")}
    unknown = sorted(asked - known)
    if unknown:
        raise unsupported_parameters(unknown)
    trimmed: dict[str, Any] = _without(view, known - asked)
    return trimmed


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(each, names) for name, each in value.items() if name not in names}
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    return value
