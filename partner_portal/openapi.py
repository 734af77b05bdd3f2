"""The OpenAPI 3.1 document, made from the same operations as the routes."""

from collections.abc import Sequence
from typing import Any

from partner_portal.operations import Operation, Parameter
from partner_portal.schemas import SCHEMAS

_PROBLEMS = {
    400: "The request is malformed; `errors` names what.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "The token lacks the scope.",
    404: "There is no such thing among yours.",
    409: "The state of your account here forbids it.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "The Idempotency-Key was used with another body.",
    429: "The token's requests of this minute are used up: wait Retry-After seconds.",
    500: "A failure of ours. It is on record.",
    503: "Come back in Retry-After seconds.",
}
_OF_EVERY_ONE = (400, 401, 403, 429, 500, 503)


def make_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document about `operations`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Payment Vault for partners",
            "version": "1.0.0",
            "description": "Ask customers to pay, and see payments, wallet and disbursements. Times are UTC, days are Nairobi's.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of `vault partner api-token add`."}
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answers = {str(status): _answer(what, "application/json", schema) for status, (what, schema) in operation.answers.items()}
    for status in sorted({*_OF_EVERY_ONE, *operation.problems}):
        answers[str(status)] = _answer(_PROBLEMS[status], "application/problem+json", "Problem")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{operation.what} Scope: `{operation.scope}`.",
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": answers,
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.what,
        "schema": dict(parameter.schema),
    }


def _answer(what: str, media_type: str, schema: str) -> dict[str, Any]:
    return {"description": what, "content": {media_type: {"schema": _ref(schema)}}}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
