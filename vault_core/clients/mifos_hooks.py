"""What the web hook of Mifos X posts (reference/fineract.md sections 7 and 11): a hint that triggers a read, never a fact.

It is unsigned, not retried, unordered, and comes for failed commands too, without `response`.
"""

from dataclasses import dataclass

from vault_core.clients.json_reading import read_json_object, text_of, whole_number
from vault_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class MifosEvent:
    """One command on the partner's server, like entity 'LOAN', action 'APPROVE'.

    `took_effect` is False for a command that failed or waits for a checker; then `loan_id` is usually unknown.
    """

    entity: str
    action: str
    loan_id: int | None
    client_id: int | None
    took_effect: bool


def parse_hook(body: bytes) -> MifosEvent:
    """Reads a hook body of content type json. Raises InvalidInput."""
    sent = read_json_object(body, "the Mifos X hook")
    entity, action = text_of(sent.get("entityName")), text_of(sent.get("actionName"))
    if not entity or not action:
        raise InvalidInput("the Mifos X hook names no entityName and actionName")
    response = sent.get("response")
    told = response if isinstance(response, dict) else {}
    resource_id = whole_number(told.get("resourceId"))
    loan_id = whole_number(told.get("loanId"))
    return MifosEvent(
        entity=entity,
        action=action,
        loan_id=loan_id,
        client_id=whole_number(told.get("clientId")),
        took_effect=resource_id is not None and "errorCode" not in told,
    )
