"""Another program that a lender runs on the same M-Pesa app: it works on its own, and what is told of that comes to us."""

from typing import Any

import httpx

from local_stack.demo.day_plan import PlannedPartner
from vault_core.errors import Unreachable

_TOO_LITTLE = 5  # shillings, below the least that M-Pesa pays: it refuses, and no money moves


class OtherProgram:
    """The program. Raises Unreachable when M-Pesa does not take its request."""

    def __init__(self, sandbox_url: str, planned: PlannedPartner, http: httpx.AsyncClient) -> None:
        self._url, self._planned, self._http = f"{sandbox_url}/daraja", planned, http

    async def pay_too_little(self, result_url: str) -> None:
        """Orders a payout that M-Pesa refuses, with its result told to `result_url`."""
        name = self._planned.name
        order = {
            "OriginatorConversationID": f"other-program-of-{name}-1",
            "InitiatorName": "vaultapi",
            "SecurityCredential": f"cred-{name}",
            "CommandID": "SalaryPayment",
            "Amount": _TOO_LITTLE,
            "PartyA": self._planned.b2c_short_code,
            "PartyB": "254700000001",
            "Remarks": "salary",
            "QueueTimeOutURL": result_url,
            "ResultURL": result_url,
            "Occassion": "",
        }
        await self._ask("POST", "/mpesa/b2c/v3/paymentrequest", json=order, headers=await self._bearer())

    async def register(self, confirmation_url: str, validation_url: str) -> None:
        """Has what customers pay to the lender's other short code told to these addresses."""
        urls = {"ConfirmationURL": confirmation_url, "ValidationURL": validation_url}
        wish = {"ShortCode": self._planned.b2c_short_code, "ResponseType": "Completed", **urls}
        await self._ask("POST", "/mpesa/c2b/v2/registerurl", json=wish, headers=await self._bearer())

    async def _bearer(self) -> dict[str, str]:
        login = (f"key-{self._planned.name}", f"secret-{self._planned.name}")
        token = await self._ask("GET", "/oauth/v1/generate?grant_type=client_credentials", auth=login)
        return {"Authorization": f"Bearer {token['access_token']}"}

    async def _ask(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, f"{self._url}{path}", **how)
        except httpx.HTTPError as error:
            raise Unreachable(f"M-Pesa does not answer another program at {path}: {error}") from error
        if answer.is_error:
            raise Unreachable(f"M-Pesa refused another program: {answer.status_code} {answer.text[:200]}")
        told: dict[str, Any] = answer.json()
        return told
