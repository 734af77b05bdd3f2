"""The API in this process, on a real database, with M-Pesa and Mifos X in the sandbox, and two partners with tokens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import jsonschema
import pytest

from partner_portal.metrics import Metrics
from partner_portal.openapi import make_document
from partner_portal.portal import OPERATIONS, build_portal
from partner_portal.portal_settings import PortalSettings
from tests.integration.collections.conftest import Umoja, umoja  # noqa: F401 - the fixture
from tests.integration.collections.stk_till import Till, open_till
from vault_core.partners.api_tokens import Scope, add_api_token
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

DOCUMENT = make_document(OPERATIONS)


async def new_token(runtime: Runtime, partner: Partner, *scopes: Scope, name: str = "branch", **more: Any) -> str:
    given = {"valid_for": timedelta(days=1), "actor": "ops:test", **more}
    return (await add_api_token(runtime, partner, name, scopes or list(Scope), **given))[0]


@dataclass
class Api:
    """Calls the API and holds each answer against the document."""

    http: httpx.AsyncClient
    till: Till
    token: str
    metrics: Metrics

    async def call(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"} | more.pop("headers", {})
        answer = await self.http.request(method, path, headers=headers, **more)
        hold_against_document(method, path.partition("?")[0], answer)
        return answer

    async def ask(self, key: str = "key-1", *, token: str | None = None, **changes: Any) -> httpx.Response:
        body = {"phone": "0712000001", "amount": "500", "account_reference": "000000011"} | changes
        return await self.call("POST", "/v1/collections/stk", token=token, json=body, headers={"Idempotency-Key": key})


def hold_against_document(method: str, path: str, answer: httpx.Response) -> None:
    """The status is one that the document names for the operation, and the body what it says of it."""
    (described,) = [
        item[method.lower()] for template, item in DOCUMENT["paths"].items() if _fits(template, path) and method.lower() in item
    ]
    said = described["responses"][str(answer.status_code)]["content"]
    ((media_type, content),) = said.items()
    assert answer.headers["content-type"].partition(";")[0] == media_type
    schema = content["schema"] | {"components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(answer.json())


def _fits(template: str, path: str) -> bool:
    parts, given = template.split("/"), path.split("/")
    return len(parts) == len(given) and all(a.startswith("{") or a == b for a, b in zip(parts, given, strict=True))


@pytest.fixture
async def api(umoja: Umoja) -> AsyncIterator[Api]:  # noqa: F811
    async with open_till(umoja) as till:
        metrics = Metrics()
        portal = build_portal(till.runtime, till.connections, PortalSettings(), metrics)
        token = await new_token(till.runtime, umoja.partner)
        transport = httpx.ASGITransport(portal, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://portal") as http:
            yield Api(http, till, token, metrics)


@pytest.fixture
async def other_token(api: Api, add_lender) -> str:
    """A token with all scopes, of another partner."""
    return await new_token(api.till.runtime, await add_lender("beta", "600200"))
