"""A small Mifos X and M-Pesa over real HTTP, for what `vault partner` asks of them; the sandbox stands in for all the rest."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from vault_core.partners.partner_file import PartnerFile, load_partner_file

SAMPLE = Path(__file__).parents[2] / "data" / "partners" / "umoja.toml"
API = "/fineract-provider/api/v1"


@dataclass
class Outside:
    """What the two servers hold and what they were asked. Changed by tests while it runs."""

    url: str
    password: str = "planted-mifos-password"
    tenant: str = "default"
    html: bool = False
    products: list[dict[str, Any]] = field(default_factory=list)
    payment_types: list[dict[str, Any]] = field(default_factory=list)
    may_create_payment_types: bool = True
    may_change_hooks: bool = True
    hooks: list[dict[str, Any]] = field(default_factory=list)
    tokens_given: int = 0
    registered: list[dict[str, Any]] = field(default_factory=list)
    already_registered: bool = False
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        self.asked.append(f"{method} {path}")
        parts = urlsplit(path)
        if self.html:
            return 200, {"Content-Type": "text/html"}, "<html><body>Welcome</body></html>"
        if parts.path.startswith(API):
            return self._mifos(method, parts.path.removeprefix(API), parse_qs(parts.query), headers, body)
        if parts.path == "/oauth/v1/generate":
            self.tokens_given += 1
            return 200, {}, {"access_token": f"planted-access-token-{self.tokens_given}", "expires_in": "3599"}
        if parts.path == "/mpesa/c2b/v2/registerurl":
            if self.already_registered:
                return 500, {}, {"requestId": "1", "errorCode": "500.003.1001", "errorMessage": "Urls are already registered"}
            self.registered.append(body)
            return 200, {}, {"OriginatorCoversationID": "1", "ResponseCode": "0", "ResponseDescription": "Success"}
        return 404, {}, {}

    def _mifos(
        self, method: str, path: str, query: dict[str, list[str]], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, str], Any]:
        spring = {"timestamp": "2026-11-24T06:00:00.000+00:00", "status": 401, "error": "Unauthorized", "path": path}
        if headers.get("fineract-platform-tenantid") != self.tenant:
            return 400, {"WWW-Authenticate": "Basic"}, {**spring, "status": 400, "error": "Bad Request"}
        if headers.get("authorization") != "Basic " + base64.b64encode(f"paymentvault:{self.password}".encode()).decode():
            return 401, {"WWW-Authenticate": "Basic"}, spring
        if path == "/loanproducts":
            return 200, {}, self.products
        if path == "/paymenttypes":
            return self._payment_types(method, body)
        if path == "/loans":
            shown = [] if query.get("status") == ["200"] else [{"status": {"id": 300}}]
            return 200, {}, {"totalFilteredRecords": len(shown), "pageItems": shown}
        if path == "/hooks":
            return self._hooks(method, body)
        if method == "PUT" and path.startswith("/hooks/"):
            return self._change_hook(int(path.removeprefix("/hooks/")), body)
        if "/external-id/" in path:
            return 404, {}, _error("error.msg.loan.external.id.invalid")
        return 404, {"X-Served-From-Cache": "true"}, _error("error.msg.loan.id.invalid")

    def _payment_types(self, method: str, body: Any) -> tuple[int, dict[str, str], Any]:
        if method == "GET":
            return 200, {}, self.payment_types
        if not self.may_create_payment_types:
            return 403, {}, _error("error.msg.not.authorized")
        self.payment_types.append({"id": 7, "name": body["name"], "isCashPayment": body["isCashPayment"]})
        return 200, {}, {"resourceId": 7}

    def _hooks(self, method: str, body: Any) -> tuple[int, dict[str, str], Any]:
        if method == "GET":
            return 200, {}, self.hooks
        config = [{"fieldName": name, "fieldValue": value} for name, value in body["config"].items()]
        self.hooks.append({"id": len(self.hooks) + 1, **body, "config": config})
        return 200, {}, {"resourceId": len(self.hooks)}

    def _change_hook(self, hook_id: int, body: Any) -> tuple[int, dict[str, str], Any]:
        if not self.may_change_hooks:
            return 403, {}, _error("error.msg.not.authorized")
        self.hooks[hook_id - 1]["events"] = body["events"]
        return 200, {}, {"resourceId": hook_id}


def _error(code: str) -> dict[str, Any]:
    return {
        "developerMessage": "refused",
        "httpStatusCode": "404",
        "defaultUserMessage": "refused",
        "userMessageGlobalisationCode": code,
        "errors": [{"defaultUserMessage": "refused", "userMessageGlobalisationCode": code}],
    }


def product(number: int, name: str, **other: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "shortName": f"P{number}",
        "currency": {"code": "KES"},
        "status": "loanProduct.active",
        **other,
    }


@pytest.fixture
def outside() -> Iterator[Outside]:
    """The two servers on one free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, extra, answer = state.answer(self.command, self.path, headers, json.loads(content) if content else None)
            raw = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **extra}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the standard library's names

        def log_message(self, *_: Any) -> None:
            """Says nothing: the tests look at `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Outside(url=f"http://127.0.0.1:{server.server_address[1]}")
    state.products = [product(1, "Biashara"), product(2, "Mkulima"), product(3, "Dollar", currency={"code": "USD"})]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def described(outside: Outside) -> PartnerFile:
    """A partner on those servers."""
    sample = load_partner_file(SAMPLE)
    return replace(
        sample,
        mifos=replace(sample.mifos, url=f"{outside.url}{API}"),
        mpesa=replace(sample.mpesa, url=outside.url),
        sms=replace(sample.sms, url=outside.url),
    )
