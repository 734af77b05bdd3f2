"""Another program that a lender runs on the same M-Pesa app: it pays on its own, and its results come to us."""

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
        login = (f"key-{name}", f"secret-{name}")
        token = await self._ask("GET", "/oauth/v1/generate?grant_type=client_credentials", auth=login)
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
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        await self._ask("POST", "/mpesa/b2c/v3/paymentrequest", json=order, headers=bearer)

    async def _ask(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, f"{self._url}{path}", **how)
        except httpx.HTTPError as error:
            raise Unreachable(f"M-Pesa does not answer another program at {path}: {error}") from error
        if answer.is_error:
            raise Unreachable(f"M-Pesa refused another program: {answer.status_code} {answer.text[:200]}")
        told: dict[str, Any] = answer.json()
        return told
