"""One delivery from outside, as it is stored and as services see it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

TOPIC_OF_PURPOSE = {
    "c2b_validation": "mpesa.c2b.validations",
    "c2b_confirmation": "mpesa.c2b.confirmations",
    "b2c_result": "mpesa.b2c.results",
    "b2c_timeout": "mpesa.b2c.timeouts",
    "stk_result": "mpesa.stk.results",
    "query_result": "mpesa.query.results",
    "query_timeout": "mpesa.query.results",
    "mifos_hook": "mifos.events",
    "sms_report": "sms.delivery-reports",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One stored delivery. `body` is the exact bytes received, in clear: keep it out of logs."""

    id: UUID
    partner_id: UUID
    purpose: str
    topic: str
    received_at: datetime
    source_ip: str
    content_type: str
    path_reference: str | None
    headers: dict[str, str]
    body: bytes
    parsed: bool

    def __repr__(self) -> str:
        return f"Delivery({self.id}, {self.purpose}, {len(self.body)} bytes)"


def sealed_body_binding(event_id: UUID) -> str:
    """What the sealed body of a delivery is bound to."""
    return f"inbound_events:{event_id}:body"
