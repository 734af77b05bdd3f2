"""The embedded PostgreSQL and Kafka, the processes and who keeps them up, the demo."""
