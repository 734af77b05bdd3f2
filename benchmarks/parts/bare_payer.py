"""Paying with nothing behind it: the requests of a payout alone, by the product's HTTP client, as many in flight at once."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Sequence

import httpx

from benchmarks.parts.lenders import Lender
from vault_core.http_pool import PooledTransport


async def pay_bare(sandbox_url: str, of: Sequence[Lender], loans: int, in_flight: int, *, reads: bool) -> float:
    """Seconds that the B2C requests of `loans` loans of each lender take; `reads`: client and loan are read before each."""
    async with httpx.AsyncClient(timeout=30, transport=PooledTransport()) as http:
        answer = await http.get(f"{sandbox_url}/daraja/oauth/v1/generate?grant_type=client_credentials", auth=("key", "secret"))
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        todo = iter([(lender, number) for number in range(1, loans + 1) for lender in of])

        async def worker() -> None:
            for lender, number in todo:
                mifos = f"{sandbox_url}/mifos/{lender.name}/fineract-provider/api/v1"
                if reads:
                    await _checked(_get(http, f"{mifos}/clients/{number}"))
                    await _checked(_get(http, f"{mifos}/loans/{number}?associations=transactions"))
                order = _order(lender, number)
                await _checked(http.post(f"{sandbox_url}/daraja/mpesa/b2c/v3/paymentrequest", json=order, headers=bearer))

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return time.perf_counter() - started


def _get(http: httpx.AsyncClient, url: str) -> Awaitable[httpx.Response]:
    return http.get(url, auth=("mifos", "password"), headers={"Fineract-Platform-TenantId": "default"})


async def _checked(call: Awaitable[httpx.Response]) -> None:
    answer = await call
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"{answer.url}: HTTP {answer.status_code} {answer.text[:200]}")


def _order(lender: Lender, number: int) -> dict[str, str]:
    return {
        "OriginatorConversationID": uuid.uuid4().hex,
        "InitiatorName": "api",
        "SecurityCredential": "credential",
        "CommandID": "BusinessPayment",
        "Amount": "15000",
        "PartyA": lender.b2c,
        "PartyB": f"254{lender.phone(number)[1:]}",
        "Remarks": "bench",
        "QueueTimeOutURL": "http://127.0.0.1:9/t",
        "ResultURL": "http://127.0.0.1:9/r",
        "Occassion": "",
    }
