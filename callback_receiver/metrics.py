"""What the receiver counts, in the Prometheus text format. One set a process: with several workers, each answers for itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vault_core.collections.validation import Code
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE

REFUSALS = (
    "unknown_path",
    "unknown_token",
    "too_large",
    "wrong_method",
    "disconnected",
    "not_stored",
    "overload",
    "unsigned",
    "stale_signature",
    "wrong_signature",
)


class Metrics:
    """The counters of one receiver process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        accepted = Counter("vault_receiver_accepted", "Deliveries stored and acknowledged", ["purpose"], registry=self.registry)
        self.accepted = {purpose: accepted.labels(purpose) for purpose in TOPIC_OF_PURPOSE}
        refused = Counter("vault_receiver_refused", "Requests not acknowledged", ["reason"], registry=self.registry)
        self.refused = {reason: refused.labels(reason) for reason in REFUSALS}
        self.unparsed = Counter(
            "vault_receiver_unparsed", "Deliveries stored whose body is no JSON object", registry=self.registry
        )
        self.batch_size = Histogram(
            "vault_receiver_batch_size",
            "Deliveries in one commit",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "vault_receiver_commit_seconds",
            "Time of one commit",
            buckets=(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0, 8.0),
            registry=self.registry,
        )
        validations = Counter(
            "vault_receiver_validations",
            "Questions of M-Pesa answered, by what it was told and whether that was known",
            ["code", "known"],
            registry=self.registry,
        )
        self.validations = {
            (code, known): validations.labels(code.value, "yes" if known else "no") for code in Code for known in (True, False)
        }
        self.validation_seconds = Histogram(
            "vault_receiver_validation_seconds",
            "Time of one answer, after the question was stored",
            buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0),
            registry=self.registry,
        )
        self.publish_queue = Gauge("vault_receiver_publish_queue", "Messages waiting for Kafka", registry=self.registry)
        self.published = Counter("vault_receiver_published", "Messages Kafka took", registry=self.registry)
        self.publish_failures = Counter("vault_receiver_publish_failures", "Messages left to the sweep", registry=self.registry)

    def text(self) -> bytes:
        """The exposition of all of them."""
        return generate_latest(self.registry)
