"""What may be posted to Mifos X at all: nothing that the server would cut off, misread or take for another posting."""

import json
from datetime import date
from typing import Any

import httpx
import pytest

from vault_core.clients.mifos import CoreWrite, MifosClient, MifosLogin
from vault_core.errors import InvalidInput
from vault_core.money import Money

GOOD: dict[str, Any] = {
    "amount": Money.shillings(10), "on": date(2026, 11, 24), "payment_type_id": 1, "receipt": "RGM1234567",
    "account_number": "254708374149", "external_id": "pv-1", "idempotency_key": "key",
}  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        {"amount": Money(0)},
        {"amount": Money(-1)},
        {"idempotency_key": ""},  # an empty key is one key for the whole server: the answer would be somebody else's
        {"idempotency_key": "k" * 51},
        {"receipt": ""},
        {"receipt": "R" * 51},
        {"account_number": ""},
        {"account_number": "2" * 51},
        {"external_id": ""},
        {"external_id": "e" * 101},
    ],
)
def test_what_the_server_would_misread_is_refused_before_it_is_sent(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        CoreWrite(**{**GOOD, **bad})


@pytest.mark.parametrize(("key", "sent"), [("key", ["key"]), (None, [])])
async def test_a_key_is_sent_as_it_is_and_none_is_no_header(key: str | None, sent: list[str]) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"loanId": 7, "subResourceId": 9, "changes": {}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = MifosClient(MifosLogin("http://mifos/api/v1", "default", "u", "p"), http, write_timeout=1)
        await client.disburse(7, CoreWrite(**{**GOOD, "idempotency_key": key}))
    assert seen[0].headers.get_list("idempotency-key") == sent
    assert Money.parse(json.loads(seen[0].content)["transactionAmount"]) == Money.shillings(10)  # text: no float on the way
