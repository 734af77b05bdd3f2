"""What the portal counts, in the Prometheus text format. One set a process: with several workers, each answers for itself."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class Metrics:
    """The counters of one portal process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("vault_portal_answers", "Answers of the API", ["operation", "status"], registry=self.registry)
        self.seconds = Histogram(
            "vault_portal_seconds",
            "Time of one answer",
            ["operation"],
            buckets=(0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0, 8.0, 32.0),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition of all of them."""
        return generate_latest(self.registry)
