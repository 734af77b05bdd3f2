"""Refusals in the form of RFC 9457 (application/problem+json)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.responses import JSONResponse

from vault_core.errors import Conflict, InvalidInput, NotFound, PermanentError, VaultError

_COME_BACK = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a request; `where` is a JSON pointer into the body (#/phone) or a parameter's name."""

    where: str
    what: str


@dataclass
class Problem(Exception):
    """An answer that is a refusal. `kind` is the last part of its type URN."""

    status: int
    kind: str
    detail: str
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def invalid(detail: str, *faults: Fault) -> Problem:
    """The request is malformed: 400."""
    return Problem(400, "invalid-request", detail, faults)


def problem_of(error: VaultError) -> Problem:
    """The refusal that an error of the business is. One that is not the caller's to mend tells nothing of the inside."""
    if isinstance(error, InvalidInput):
        field_name, separator, what = str(error).partition(": ")
        faults = [Fault(f"#/{field_name}", what)] if separator and field_name.isidentifier() else []
        return Problem(400, "invalid-request", str(error), faults)
    if isinstance(error, NotFound):
        return Problem(404, "not-found", str(error))
    if isinstance(error, Conflict):
        return Problem(409, "conflict", str(error))
    if isinstance(error, PermanentError):
        return Problem(500, "internal", "the request failed inside Payment Vault and was recorded")
    return unavailable()


def unavailable() -> Problem:
    """Something that the answer needs is away for a moment: 503. Nothing was begun that is not on record."""
    return Problem(
        503, "unavailable", "try again in a moment, with the same Idempotency-Key", headers={"Retry-After": str(_COME_BACK)}
    )


def answer(problem: Problem) -> JSONResponse:
    """The problem as it is sent."""
    body: dict[str, object] = {
        "type": f"urn:payment-vault:problem:{problem.kind}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.faults:
        body["errors"] = [{"where": fault.where, "what": fault.what} for fault in problem.faults]
    return JSONResponse(body, problem.status, dict(problem.headers), media_type="application/problem+json")
