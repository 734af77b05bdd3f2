"""Fineract's error bodies. Errors are pretty-printed, with the key order of the real server."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.asgi import Answer

_VALIDATION = (
    "The request was invalid. This typically will happen due to validation errors which are provided.",
    "Validation errors exist.",
    "validation.msg.validation.errors.exist",
)
_DOMAIN_RULE = (
    "Request was understood but caused a domain rule violation.",
    "Errors contain reason for domain rule violation.",
    "validation.msg.domain.rule.violation",
)
_NOT_FOUND = ("The requested resource is not available.",) * 2 + ("error.msg.resource.not.found",)
_INTEGRITY = "The request caused a data integrity issue to be fired by the database."
_PRIVILEGES = (
    "The user associated with credentials passed on this request does not have sufficient privileges to perform this action.",
    "Insufficient privileges to perform this action.",
    "error.msg.not.authorized",
)


class RefusalError(Exception):
    """A command or read the host refuses; carries the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of `errors`."""

    text: str
    code: str
    parameter: str | None = "id"
    args: tuple[Any, ...] = ()  # a bare {} is written as such, anything else as {"value": ...}
    value: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As the server writes it."""
        named = {} if self.parameter is None else {"parameterName": self.parameter}
        return {
            "defaultUserMessage": self.text,
            **named,
            **({} if self.value is None else {"value": self.value}),
            "developerMessage": self.text,
            "userMessageGlobalisationCode": self.code,
            "args": [arg if arg == {} else {"value": arg} for arg in self.args],
        }


def pretty(body: Any, status: int, headers: dict[str, str] | None = None) -> Answer:
    """A pretty-printed answer."""
    return Answer(status, json.dumps(body, indent=2, separators=(",", " : ")).encode(), headers or {})


def _whole(status: int, outer: tuple[str, ...], faults: tuple[Fault, ...]) -> Answer:
    developer, user, code = outer
    body = {
        "developerMessage": developer,
        "httpStatusCode": str(status),
        "defaultUserMessage": user,
        "userMessageGlobalisationCode": code,
        "errors": [fault.as_json() for fault in faults],
    }
    return pretty(body, status)


def validation(*faults: Fault) -> RefusalError:
    """400 with one entry a wrong field."""
    return RefusalError(_whole(400, _VALIDATION, faults))


def domain_rule(fault: Fault) -> RefusalError:
    """403: a rule of the business, not a permission."""
    return RefusalError(_whole(403, _DOMAIN_RULE, (fault,)))


def client_not_active() -> RefusalError:
    """The 403 of a command on an account whose client is not active."""
    return domain_rule(Fault("Client is not active", "error.msg.client.not.active.exception"))


def not_found(fault: Fault) -> RefusalError:
    """404 of an entity."""
    return RefusalError(_whole(404, _NOT_FOUND, (fault,)))


def integrity(fault: Fault) -> RefusalError:
    """403: the database refused."""
    return RefusalError(_whole(403, (_INTEGRITY, fault.text, fault.code), (fault,)))


def not_authorized(text: str) -> RefusalError:
    """403: the user lacks a permission."""
    return RefusalError(_whole(403, _PRIVILEGES, (Fault(text, "error.msg.not.authorized"),)))


def unsupported_parameters(names: list[str]) -> RefusalError:
    """400 for keys the server does not know: it never ignores one."""
    return validation(
        *(Fault(f"The parameter {name} is not supported.", "error.msg.parameter.unsupported", name, (name,)) for name in names)
    )


def bad_json(error: str) -> RefusalError:
    """400, a flat object unlike the others."""
    text = f"The JSON syntax provided in the body of the request is invalid: {error}"
    if not error:
        text = "The JSON provided in the body of the request is invalid or missing."
    return RefusalError(pretty(Fault(text, "error.msg.invalid.request.body").as_json(), 400))


def spring(status: int, reason: str, path: str, *, challenge: bool = False) -> Answer:
    """The web framework's own body: for what fails outside Fineract's code."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = {"WWW-Authenticate": 'Basic realm="Fineract Platform API"'} if challenge else {}
    own_path = path[path.find("/fineract-provider") :]
    return pretty({"timestamp": moment, "status": status, "error": reason, "path": own_path}, status, headers)


def not_authenticated() -> Answer:
    """401 of POST /authentication: Fineract's object without `errors`."""
    body = {
        "developerMessage": "Invalid authentication details were passed in api request.",
        "httpStatusCode": "401",
        "defaultUserMessage": "Unauthenticated. Please login.",
        "userMessageGlobalisationCode": "error.msg.not.authenticated",
    }
    return pretty(body, 401)


def locked_by_cob(loan_id: int) -> Answer:
    """409 of the close-of-business filter: compact, and without a Content-Type."""
    text = f"Loan is locked by the COB job. Loan ID: {loan_id}"
    body = {
        "developerMessage": text,
        "httpStatusCode": "409",
        "defaultUserMessage": text,
        "userMessageGlobalisationCode": "error.msg.loan.locked",
    }
    return Answer(409, json.dumps(body, separators=(",", ":")).encode(), content_type=None)


def conflict() -> Answer:
    """409 after the server's own retries lost their race."""
    text = (
        "The server is currently unable to handle the request due to concurrent modification"
        "  on query [unknown], please try again"  # two blanks, sic
    )
    body = {
        "developerMessage": text,
        "httpStatusCode": "409",
        "defaultUserMessage": text,
        "userMessageGlobalisationCode": "error.msg.platform.service.query.conflict",
    }
    return pretty(body, 409)
