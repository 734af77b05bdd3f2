"""The whole product, running."""

from collections.abc import Iterator

import pytest

from tests.private_stack import DAGSTER, PrivateStack, start_private_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[PrivateStack]:
    """PostgreSQL, Kafka, receiver, one stream worker and the sandbox, supervised, in a home of their own. No Dagster."""
    with start_private_stack(sandbox=True, without=DAGSTER) as running:
        yield running
