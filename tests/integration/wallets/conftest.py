from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from vault_core.runtime import Runtime


@pytest.fixture
async def partner_id(runtime: Runtime) -> UUID:
    made = uuid4()
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                """
                INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,
                    b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
                VALUES (:id, 'alpha', 'Alpha', 'u', 't', 'm', 'u', 'i', '1', '2', 'u', 's', 's', :now, :now)
                """
            ),
            {"id": made, "now": runtime.clock.now()},
        )
    return made
