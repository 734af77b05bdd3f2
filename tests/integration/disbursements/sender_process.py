"""A process that sends batches, as a Dagster run does: `python -m tests.integration.disbursements.sender_process BATCH...`."""

import asyncio
import os
import sys
from contextlib import aclosing
from uuid import UUID

from vault_core.disbursements.sending import send_batch
from vault_core.partners.connections import Connections
from vault_core.runtime import open_runtime
from vault_core.settings import read_settings


async def main() -> None:
    async with open_runtime(read_settings(os.environ)) as runtime, aclosing(Connections(runtime)) as connections:
        for batch in sys.argv[1:]:
            await send_batch(runtime, connections, UUID(batch))


asyncio.run(main())
