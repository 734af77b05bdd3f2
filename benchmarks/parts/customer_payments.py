"""C2B confirmations as M-Pesa would post them, made ahead as whole HTTP requests."""

import json
import random
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from urllib.parse import urlsplit

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"


class CustomerPayments:
    """Payments to pay bills, each once: `places` are (pay bill, the address of its confirmations), served in turn.

    `references` are what payers type, in turn; `most` is the largest amount, in shillings.
    """

    def __init__(self, places: Sequence[tuple[str, str]], references: Sequence[str], at: datetime, *, most: int = 5_000) -> None:
        self._places = [(pay_bill, urlsplit(address).path) for pay_bill, address in places]
        self._references = references
        self._at = at
        self._most = most
        self._numbers = count()
        self._chance = random.Random(7)

    def requests(self, how_many: int, *, poison: int = 0) -> list[bytes]:
        """The next `how_many` requests; every `poison`-th (0: none) has a body that no parser takes."""
        return [self._request(bad=bool(poison) and place % poison == 0) for place in range(1, how_many + 1)]

    def _request(self, *, bad: bool) -> bytes:
        number = next(self._numbers)
        pay_bill, path = self._places[number % len(self._places)]
        body = {
            "TransactionType": "Pay Bill",
            "TransID": receipt(number),
            "TransTime": f"{self._at:%Y%m%d%H%M%S}",
            "TransAmount": "fifty shillings" if bad else f"{self._chance.randint(10, self._most)}.00",
            "BusinessShortCode": pay_bill,
            "BillRefNumber": self._references[number // len(self._places) % len(self._references)],
            "InvoiceNumber": "",
            "OrgAccountBalance": "49197.00",
            "ThirdPartyTransID": "",
            "MSISDN": "2547 ***** 126",
            "FirstName": "JANE",
        }
        return http_post(path, json.dumps(body).encode())


def receipt(number: int) -> str:
    """The receipt of payment `number`: ten signs, another for each."""
    signs = []
    for _ in range(9):
        number, place = divmod(number, len(_ALPHABET))
        signs.append(_ALPHABET[place])
    return "U" + "".join(reversed(signs))


def http_post(path: str, body: bytes) -> bytes:
    """The whole request that posts `body` as M-Pesa does."""
    head = (
        f"POST {path} HTTP/1.1",
        "Host: vault.example",
        "User-Agent: Apache-HttpClient/4.5",
        "Accept: application/json",
        "Content-Type: application/json;charset=UTF-8",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*head, "", ""]).encode() + body
