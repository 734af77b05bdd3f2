"""What people outside do on the demo's day: the office adds lenders, officers approve loans, customers pay, finance tops up."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import httpx

from local_stack.demo.day_plan import LIMITS, DayPlan, Found, PlannedLoan, PlannedPartner
from local_stack.demo.live_lender import LiveLender
from local_stack.demo.live_office import LiveMifos
from local_stack.demo.world import partner_file, passkey_of, payment_order
from vault_core.collections.pull_registration import register_pull
from vault_core.errors import Unreachable
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.credentials import CredentialPurpose, replace_credential
from vault_core.partners.partner import Partner
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.products import Limits, enable_product
from vault_core.partners.registration import register_partner
from vault_core.partners.url_registration import ensure_mifos_hook, register_c2b_urls
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_decisions import approve_adjustment
from vault_core.wallets.adjustments import Adjustment
from vault_core.wallets.topup import record_topup

ACTOR = "ops:demo"
COLLEAGUE = "ops:colleague"  # whoever must not be the first person again
_NOMINATED = "0700000001"  # the number that the lender gave Safaricom for Pull Transactions
_OK = 200
_WAVES = 10  # the day's approvals and payments come in this many waves, so that they mix


class Outside:
    """The levers and truth books of the sandbox."""

    def __init__(self, base_url: str, http: httpx.AsyncClient) -> None:
        self._base_url, self._http = base_url, http

    async def pull(self, lever: str, wish: object) -> dict[str, Any]:
        """Pulls a control lever. Raises Unreachable if the sandbox does not answer or refuses the wish."""
        return await self._ask("POST", f"/control/{lever}", json=wish)

    async def truth(self) -> dict[str, Any]:
        """The whole truth, all books."""
        return await self._ask("GET", "/truth")

    async def summary(self) -> dict[str, Any]:
        """Sums of the books, faults so far, and how many callbacks are still to come (`pending`)."""
        return await self._ask("GET", "/truth/summary")

    async def statement(self, short_code: str) -> bytes:
        """The statement of a short code, as a person downloads it from the M-Pesa portal."""
        return (await self._send("GET", f"/control/statement?short_code={short_code}")).content

    async def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        result: dict[str, Any] = (await self._send(method, path, **body)).json()
        return result

    async def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, f"{self._base_url}{path}", **body)
        except httpx.HTTPError as error:
            raise Unreachable(f"the sandbox does not answer at {self._base_url}{path}: {error}") from error
        if answer.is_error:
            raise Unreachable(f"the sandbox refused {path}: {answer.status_code} {answer.text[:300]}")
        return answer


async def take_in_lender(
    runtime: Runtime, connections: Connections, planned: PlannedPartner, sandbox_url: str, server: LiveMifos | None = None
) -> Partner:
    """Adds a lender as `vault partner add`, `enable`, `register-urls` and `hook` do, and pays in its first top-up.

    `server` is the Mifos X of a live one.
    """
    partner = await register_partner(runtime, parse_partner_file(partner_file(planned, sandbox_url, server)), actor=ACTOR)
    if planned.every_feed:
        await replace_credential(runtime, partner.id, CredentialPurpose.MPESA_PASSKEY, passkey_of(planned), actor=ACTOR)
    limits = Limits(Money.shillings(LIMITS[0]), Money.shillings(LIMITS[1]), None)
    for name in planned.products:
        await enable_product(runtime, partner, name, limits, actor=ACTOR)
    await register_c2b_urls(runtime, connections, partner, actor=ACTOR)
    await ensure_mifos_hook(runtime, connections, partner, actor=ACTOR)
    if planned.every_feed:
        await register_pull(runtime, connections, partner, _NOMINATED, actor=ACTOR)
    await _pay_in(runtime, partner, planned.first_top_up, f"OPEN-{planned.name}", "opening balance")
    return partner


async def top_up_again(runtime: Runtime, partner: Partner, planned: PlannedPartner) -> None:
    """The second top-up, for the lender that has run short."""
    await _pay_in(runtime, partner, planned.second_top_up, f"MORE-{planned.name}", "wallet was short")


async def _pay_in(runtime: Runtime, partner: Partner, shillings: int, reference: str, why: str) -> None:
    """A top-up; above the limit of one person the colleague sees it in the bank, too."""
    recorded = await record_topup(runtime, partner.id, Money.shillings(shillings), reference, ACTOR, why)
    if isinstance(recorded, Adjustment):
        await approve_adjustment(runtime, recorded.id, actor=COLLEAGUE)


async def live_the_day(outside: Outside, plan: DayPlan, *, wave_seconds: float, live: LiveLender | None = None) -> None:
    """Officers approve and customers pay, in waves `wave_seconds` apart. Returns when the last has been told to the outside."""
    for wave in range(_WAVES):
        for partner in plan.partners:
            hooked = [loan for loan in partner.approved if loan.found is Found.HOOK and loan.trouble is None]
            approvals = list(_share(hooked, wave))
            payments = [payment_order(partner, payment) for payment in partner.payments]
            if live is not None and partner is live.planned:
                await live.approve(approvals)
            else:
                await approve_in_sandbox(outside, partner, approvals)
            await outside.pull("c2b", {"payments": list(_share(payments, wave))})
        await asyncio.sleep(wave_seconds)


async def approve_in_sandbox(outside: Outside, partner: PlannedPartner, loans: Sequence[PlannedLoan]) -> None:
    """Officers approve loans in the sandbox's Mifos X. Raises Unreachable if it refuses one."""
    answers = await outside.pull("approve", {"host": partner.host, "loans": [loan.number for loan in loans]})
    if refused := {loan: status for loan, status in answers["statuses"].items() if status != _OK}:
        raise Unreachable(f"the sandbox did not approve loans of {partner.host}: {refused}")


def _share(things: list[Any], wave: int) -> Iterable[Any]:
    return things[wave::_WAVES]
