"""Finding out what a Mifos X server can do, by asking it and looking at what it does (reference/fineract.md section 0).

Versions lie (distributions ship older cores) and unknown parameters are ignored in silence, so each feature is seen at work.
Nothing is posted: the two write probes name an account that cannot exist and carry no amount, so that they are refused.
"""

from typing import Any
from uuid import uuid4

from vault_core.clients.http_exchange import Answer
from vault_core.clients.json_reading import read_json, text_of
from vault_core.clients.mifos_errors import NOT_AUTHORIZED, error_of, read_failure
from vault_core.clients.mifos_reading import APPROVED, status_ids
from vault_core.clients.mifos_session import MifosSession
from vault_core.clients.mifos_values import MifosCapabilities
from vault_core.errors import InvalidInput, NotUnderstood, RemoteRefusal, Unreachable

_NO_ACCOUNT = 999_999_999_999
_ROWS = 20
_OK, _SERVER_FAULT = 200, 500
_REPAYMENT = f"/loans/{_NO_ACCOUNT}/transactions"
_DEPOSIT = f"/savingsaccounts/{_NO_ACCOUNT}/transactions"
_EMPTY = {"locale": "en", "dateFormat": "yyyy-MM-dd"}


async def find_capabilities(session: MifosSession) -> MifosCapabilities:
    """What this server can do.

    Raises LoginRefused, RemoteRefusal (a permission is missing), NotUnderstood, Unreachable or RemoteBusy.
    """
    paths = await _knows_external_id_paths(session)
    return MifosCapabilities(
        status_filter=await _filters_by_status(session),
        idempotency=await _replays_keys(session),
        loan_external_ids=paths or await _takes_external_id(session, _REPAYMENT, "repayment"),
        savings_external_ids=await _takes_external_id(session, _DEPOSIT, "deposit"),
        version=await _version(session),
        external_id_paths=paths,
    )


async def _filters_by_status(session: MifosSession) -> bool:
    """Whether `?status=` filters. An old server ignores it: then rows of other statuses come back, or the counts never change."""
    approved, ids = await _count(session, status=str(APPROVED))
    if any(status != APPROVED for status in ids):
        return False
    everything, _ = await _count(session)
    if approved != everything:
        return True
    if everything:  # all loans are approved ones, or the filter is ignored: no loan can be active as well
        active, _ = await _count(session, status="300")
        return active != everything
    # No loan at all. A server that reads `status` fails on a word (it parses an integer); one that ignores it does not.
    word = await session.answer("GET", "/loans", params={"status": "word", "offset": "0", "limit": "1"})
    return word.status >= _SERVER_FAULT


async def _count(session: MifosSession, **filters: str) -> tuple[int, list[int | None]]:
    params = {"offset": "0", "limit": str(_ROWS), "orderBy": "id", "sortOrder": "ASC", **filters}
    try:
        return status_ids(await session.get("/loans", params))
    except InvalidInput as error:
        raise NotUnderstood(f"GET /loans: {error}", code="shape") from error


async def _replays_keys(session: MifosSession) -> bool:
    """Whether a second request with the same Idempotency-Key is answered from the store."""
    key = str(uuid4())
    await _refused(session, _REPAYMENT, "repayment", _EMPTY, key)
    again = await _refused(session, _REPAYMENT, "repayment", _EMPTY, key)
    return again.headers.get("x-served-from-cache") == "true"


async def _knows_external_id_paths(session: MifosSession) -> bool:
    """Whether /loans/external-id/... is a path of this server (since 1.9.0)."""
    answer = await session.answer("GET", f"/loans/external-id/probe-{uuid4()}")
    return "external.id" in _error(answer)[0]


async def _takes_external_id(session: MifosSession, path: str, command: str) -> bool:
    """Whether such a write may carry an external id; a server that does not know it refuses the parameter before all else."""
    answer = await _refused(session, path, command, {**_EMPTY, "externalId": f"probe-{uuid4()}"}, None)
    return _error(answer)[0] != "error.msg.parameter.unsupported"


async def _refused(session: MifosSession, path: str, command: str, body: dict[str, Any], key: str | None) -> Answer:
    """The refusal of a write that cannot succeed. Raises RemoteRefusal when our user may not write such things at all."""
    answer = await session.answer("POST", path, params={"command": command}, body=body, idempotency_key=key)
    code, reason = _error(answer)
    if code == NOT_AUTHORIZED:
        raise RemoteRefusal(f"the user may not post a {command} in Mifos X: {reason}", code=code, status=answer.status)
    if not code or answer.status >= _SERVER_FAULT:
        raise read_failure(answer.status, answer.headers, answer.body, f"POST {path}")
    return answer


async def _version(session: MifosSession) -> str | None:
    """The version text of /actuator/info, which stands beside /api; None where it is not exposed."""
    root, found, _ = session.base.rpartition("/api/")
    if not found:
        return None
    try:
        answer = await session.answer("GET", "/actuator/info", base=root)
        info = read_json(answer.body, "actuator info") if answer.status == _OK else None
    except (Unreachable, InvalidInput):
        return None
    for path in (("git", "build", "version"), ("build", "version"), ("git", "commit", "id", "abbrev")):
        value: Any = info
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if text := text_of(value):
            return text[:60]
    return None


def _error(answer: Answer) -> tuple[str, str]:
    try:
        return error_of(read_json(answer.body, "answer"))
    except InvalidInput:
        return "", ""
