"""Disbursing in Mifos X with nothing behind it: keep-alive connections, one thread each, as fast as the server answers.

What is sent is what the speed.py of the real server's tools sends, the same headers and body, so that the rate is its rate.
"""

import base64
import http.client
import json
import threading
import time
import urllib.parse
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

from local_stack.demo.live_office import LiveMifos

CLIENTS = (4, 8)  # more than that only wait in a Fineract of two cores
_OK = 200
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class BareRate:
    """The best rate that bare clients reached (postings a second), and how many clients it took."""

    per_second: float
    clients: int


class BareDisburser:
    """Clients of one server. `loans` are (id, principal in shillings), approved, each disbursed once."""

    def __init__(self, server: LiveMifos, day: date) -> None:
        self._server, self._day = server, day
        self._place = urllib.parse.urlsplit(server.url)
        login = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {login}",
            "Fineract-Platform-TenantId": server.tenant,
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        self._own = threading.local()
        kinds = self._exchange("GET", "/paymenttypes", None)
        self._payment_type = next((kind["id"] for kind in kinds if not kind.get("isCashPayment")), None)

    def best(self, loans: Sequence[tuple[int, int]]) -> BareRate:
        """The best rate of 4 and of 8 clients, each on a share of `loans`."""
        shares = [loans[place :: len(CLIENTS)] for place in range(len(CLIENTS))]
        rates = [BareRate(self.rate(share, clients), clients) for share, clients in zip(shares, CLIENTS, strict=True)]
        return max(rates, key=lambda each: each.per_second)

    def rate(self, loans: Sequence[tuple[int, int]], clients: int) -> float:
        """Disburses `loans` with so many clients; postings a second."""
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self._disburse, loans))
        return len(loans) / (time.perf_counter() - started)

    def _disburse(self, loan: tuple[int, int]) -> None:
        number, amount = loan
        body = {
            "actualDisbursementDate": str(self._day),
            "transactionAmount": amount,
            "paymentTypeId": self._payment_type,
            "receiptNumber": uuid.uuid4().hex[:10].upper(),
            "externalId": f"d-{uuid.uuid4().hex}",
            "locale": "en",
            "dateFormat": "yyyy-MM-dd",
        }
        self._exchange("POST", f"/loans/{number}?command=disburse", body)

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        connection = self._connection()
        headers = self._headers if body is None else {**self._headers, "Idempotency-Key": str(uuid.uuid4())}
        connection.request(method, self._place.path + path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != _OK:
            raise SystemExit(f"{method} {path}: HTTP {answer.status} {text[:300]!r}")
        return json.loads(text)

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if found is None:
            kind = http.client.HTTPSConnection if self._place.scheme == "https" else http.client.HTTPConnection
            found = self._own.connection = kind(self._place.hostname or "", self._place.port, timeout=_PATIENCE)
        return found
