"""A stream worker that books payments and does nothing else: no call of the outbox is relayed, no job runs by the clock."""

import os

from vault_pipelines.streams import c2b_confirmations
from vault_pipelines.streams.app import build_app

app = build_app(os.environ, agents=(c2b_confirmations,), with_clock=False)
