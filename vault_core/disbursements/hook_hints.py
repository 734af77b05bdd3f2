"""Which loan a web hook of Mifos X hints at. A hint only: the loan is read before anything follows.

Hooks are unsigned, unordered and sent for failed commands too (reference/fineract.md sections 7 and 11), so only a body that
names a resource in its response counts. Header names differ between servers (X-Fineract-*, X-Mifos-*). The predecessor was fed
a flat body, {"loanId", "resourceId", "changes": {"status": ...}}, without a name of what happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vault_core.clients.json_reading import read_json_object, whole_number

_APPROVED = 200


_UNDOINGS = frozenset({"DISBURSALUNDO", "DISBURSALLASTUNDO"})


@dataclass(frozen=True, slots=True)
class LoanHint:
    """Loan `loan_id` was perhaps approved just now, or a disbursal of it undone."""

    loan_id: int
    undone: bool = False


@dataclass(frozen=True, slots=True)
class NoHint:
    """The hook is about something else. `why` in a few words."""

    why: str


def read_hook(headers: Mapping[str, str], body: bytes) -> LoanHint | NoHint:
    """What the hook hints at. Raises InvalidInput for a body that is not a JSON object."""
    sent = read_json_object(body, "the Mifos X hook")
    names = {name.lower(): value for name, value in headers.items()}
    entity = _word(sent.get("entityName") or names.get("x-fineract-entity") or names.get("x-mifos-entity"))
    action = _word(sent.get("actionName") or names.get("x-fineract-action") or names.get("x-mifos-action"))
    response = sent.get("response")
    if not isinstance(response, dict):
        flat = whole_number(sent.get("loanId")) is not None and isinstance(sent.get("changes"), dict)
        if not flat:
            return NoHint(f"{entity} {action} that did not succeed" if entity else "no loan named")
        response = sent
    if (entity, action) == ("", ""):
        if not _says_approved(response):
            return NoHint("a change other than an approval")
    elif entity != "LOAN" or action not in {"APPROVE", *_UNDOINGS}:
        return NoHint(f"{entity} {action}")
    loan_id = whole_number(response.get("loanId"))
    loan_id = loan_id if loan_id is not None else whole_number(response.get("resourceId"))
    return NoHint(f"{entity} {action} that did not succeed") if loan_id is None else LoanHint(loan_id, action in _UNDOINGS)


def _word(value: Any) -> str:
    return value.strip().upper() if isinstance(value, str) else ""


def _says_approved(response: Mapping[str, Any]) -> bool:
    changes = response.get("changes")
    status = changes.get("status") if isinstance(changes, dict) else None
    return isinstance(status, dict) and (whole_number(status.get("id")) == _APPROVED or status.get("waitingForDisbursal") is True)
