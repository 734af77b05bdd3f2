"""Web hooks of a partner who signs them, and of one who does not."""

import hashlib
import hmac
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.integration.callback_receiver.conftest import PARTNER
from tests.integration.callback_receiver.test_receiver import metric, rows_of
from vault_core.partners.credentials import CredentialPurpose, credential_binding
from vault_core.secrets import Sealer

SECRET = "6b1f" * 16
BODY = b'{"entityName":"LOAN","actionName":"APPROVE","response":{"loanId":1}}'


def headers(body: bytes = BODY, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    signature = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-Vault-Timestamp": stamp, "X-Vault-Signature": f"sha256={signature}"}


@pytest.fixture
def signing(inbox_url: str, sealer: Sealer, receiver, tokens) -> Iterator[None]:
    """The partner signs its hooks from here on, as the receiver knows within seconds."""
    engine = create_engine(inbox_url)
    purpose = CredentialPurpose.HOOK_SECRET
    sealed = sealer.seal(SECRET, bound_to=credential_binding(PARTNER, purpose))
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO partner_credentials (partner_id, purpose, sealed, set_at) VALUES (:id, :purpose, :sealed, now())"),
            {"id": PARTNER, "purpose": purpose, "sealed": sealed},
        )

    until(receiver.url, tokens, 401)
    yield
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM partner_credentials WHERE purpose = 'hook_secret'"))
    until(receiver.url, tokens, 200)
    engine.dispose()


def until(url: str, tokens: dict[str, str], status: int) -> None:
    """Waits until the receiver follows the table: an unsigned hook is answered with `status`."""
    deadline = time.monotonic() + 15
    while httpx.post(f"{url}/i/{tokens['mifos_hook']}/", content=BODY).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("signing")
def test_a_partner_who_signs_is_heard_only_with_a_good_signature(receiver, tokens, inbox_url) -> None:
    url = f"{receiver.url}/i/{tokens['mifos_hook']}/"
    before = len(rows_of(inbox_url))
    counted = {
        reason: metric(receiver.url, f'vault_receiver_refused_total{{reason="{reason}"}}')
        for reason in ("unsigned", "wrong_signature", "stale_signature")
    }
    refused = {
        "unsigned": {"Content-Type": "application/json"},
        "wrong_signature": headers(secret="another"),
        "stale_signature": headers(at=time.time() - 600),
    }
    for sent in refused.values():
        answer = httpx.post(url, content=BODY, headers=sent)
        assert (answer.status_code, answer.content) == (401, b"")
    assert httpx.post(url, content=BODY + b" ", headers=headers()).status_code == 401  # the raw body counts
    twice = [*headers().items(), ("X-Vault-Signature", "sha256=" + "0" * 64)]
    assert httpx.post(url, content=BODY, headers=twice).status_code == 401
    assert len(rows_of(inbox_url)) == before
    for reason, count in counted.items():
        assert metric(receiver.url, f'vault_receiver_refused_total{{reason="{reason}"}}') > count
    assert httpx.post(url, content=BODY, headers=headers()).status_code == 200
    assert len(rows_of(inbox_url)) == before + 1


@pytest.mark.usefixtures("signing")
def test_the_probe_of_the_hook_address_and_other_callbacks_of_that_partner_need_none(receiver, tokens) -> None:
    assert httpx.get(f"{receiver.url}/i/{tokens['mifos_hook']}/").status_code == 200
    assert httpx.post(f"{receiver.url}/i/{tokens['b2c_result']}/", content=b"{}").status_code == 200


def test_signatures_are_not_asked_for_where_there_is_no_secret(receiver, tokens) -> None:
    url = f"{receiver.url}/i/{tokens['mifos_hook']}/"
    assert httpx.post(url, content=BODY).status_code == 200
    assert httpx.post(url, content=BODY, headers=headers(secret="whatever")).status_code == 200
