"""Lenders of a benchmark: each with a Mifos X of its own in the sandbox, clients, loans and a prepaid wallet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.products import Limits, enable_product
from vault_core.partners.registration import register_partner
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_decisions import approve_adjustment
from vault_core.wallets.adjustments import Adjustment
from vault_core.wallets.topup import record_topup

PRINCIPAL_CENTS = 1_500_000
SUBMITTED, APPROVED, ACTIVE = 100, 200, 300
_ACTOR = "ops:bench"
_SECOND = "ops:second"  # above a limit one person does not credit alone
_PARTNER = """
[partner]
name = "{name}"
display_name = "{name} Credit"
[mifos]
url = "{base}/mifos/{name}/fineract-provider/api/v1"
tenant = "default"
user = "mifos"
password = "password"
[mpesa]
url = "{base}/daraja"
consumer_key = "key"
consumer_secret = "secret"
initiator = "api"
security_credential = "credential"
b2c_short_code = "{b2c}"
c2b_short_code = "{c2b}"
[sms]
url = "{base}/airtouch"
user = "sim"
api_key = "SIM"
sender = "LENDER"
price = "0.80"
[charges]
system_fee = "50.00"
[[contacts]]
role = "operations"
name = "Ops"
phone = "0712000001"
"""


@dataclass(frozen=True, slots=True)
class Lender:
    """One lender, by its number from 0 to 9."""

    number: int

    @property
    def name(self) -> str:
        """Its name in Payment Vault, and that of its Mifos X in the sandbox."""
        return f"lender{self.number}"

    @property
    def b2c(self) -> str:
        """The short code that it pays from."""
        return str(600_100 + 2 * self.number)

    @property
    def c2b(self) -> str:
        """Its pay bill."""
        return str(600_101 + 2 * self.number)

    def phone(self, loan: int) -> str:
        """The number of the client of loan `loan`."""
        return f"07{self.number}{loan:07d}"


def lenders(count: int) -> list[Lender]:
    """The first `count` lenders, at most 10."""
    return [Lender(number) for number in range(count)]


def world(of: Sequence[Lender], loans: Sequence[tuple[int, int]], settings: dict[str, int]) -> dict[str, Any]:
    """The sandbox's world: each lender has `loans`, as (how many, their status), numbered from 1, each of a client of its own."""
    return {
        "mpesa": {
            "apps": [{"consumer_key": "key", "consumer_secret": "secret"}],
            "short_codes": {
                code: {
                    "name": lender.name.upper(),
                    "utility_cents": 10**13,
                    "initiator": "api",
                    "security_credential": "credential",
                }
                for lender in of
                for code in (lender.b2c, lender.c2b)
            },
        },
        "mifos": {lender.name: _host(lender, loans) for lender in of},
        "sms": {"users": [{"user": "sim", "api_key": "SIM", "senders": ["LENDER"], "balance_cents": 10**12}]},
        "settings": settings,
    }


async def take_in(
    runtime: Runtime, sandbox_url: str, of: Sequence[Lender], loans: Sequence[tuple[int, int]], settings: dict[str, int]
) -> list[Partner]:
    """Makes the world, and registers each lender with its product enabled and a wallet that covers all its loans."""
    filled = await runtime.http.post(f"{sandbox_url}/control/setup", json=world(of, loans, settings), timeout=300)
    filled.raise_for_status()
    count = sum(number for number, _ in loans)
    partners = []
    for lender in of:
        file = _PARTNER.format(name=lender.name, base=sandbox_url, b2c=lender.b2c, c2b=lender.c2b)
        partner = await register_partner(runtime, parse_partner_file(file), actor=_ACTOR)
        limits = Limits(Money.shillings(500), Money.shillings(200_000), None)
        await enable_product(runtime, partner, "1", limits, actor=_ACTOR)
        paid_in = await record_topup(runtime, partner.id, Money.shillings(1000 + count * 100), "BENCH", _ACTOR, "benchmark")
        if isinstance(paid_in, Adjustment):
            await approve_adjustment(runtime, paid_in.id, actor=_SECOND)
        partners.append(partner)
    return partners


def _host(lender: Lender, loans: Sequence[tuple[int, int]]) -> dict[str, Any]:
    statuses = [status for count, status in loans for _ in range(count)]
    return {
        "users": [{"username": "mifos", "password": "password", "permissions": ["ALL_FUNCTIONS"]}],
        "payment_types": ["M-Pesa"],
        "products": [{"id": 1, "name": "Biashara Loan"}],
        "clients": [
            {"id": number, "first_name": "Wanjiku", "last_name": "Kamau", "mobile_no": lender.phone(number)}
            for number in range(1, len(statuses) + 1)
        ],
        "loans": [
            {"id": number, "client": number, "product": 1, "principal_cents": PRINCIPAL_CENTS, "status": status}
            for number, status in enumerate(statuses, 1)
        ],
    }
