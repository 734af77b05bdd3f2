"""The Kafka topics, created ahead by the product: automatic creation is off (DESIGN.md section 3)."""

from dataclasses import dataclass

_RETENTION_HOURS = 72


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and how it is cut. Partitions bound how many workers can share it."""

    name: str
    partitions: int = 4
    retention_hours: int = _RETENTION_HOURS


TOPICS = (
    Topic("mpesa.c2b.validations"),
    Topic("mpesa.c2b.confirmations"),
    Topic("mpesa.b2c.results"),
    Topic("mpesa.b2c.timeouts"),
    Topic("mpesa.stk.results"),
    Topic("mpesa.query.results"),
    Topic("mifos.events"),
    Topic("sms.delivery-reports"),
    Topic("vault.dispatch.mifos"),
    Topic("vault.dispatch.sms"),
    Topic("vault.dead-letters", partitions=1),
)
