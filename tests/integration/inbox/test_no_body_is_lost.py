"""Whatever bytes come in on a callback URL, they have an effect or are an exception with its cause, and can be opened again."""

import random

import pytest
from sqlalchemy import text

from tests.integration.collections.conftest import umoja  # noqa: F401 - the fixture
from tests.unit.clients.test_callback_parsers_under_mutation import PARSERS, damage, samples
from vault_core.collections.confirmations import handle_confirmations
from vault_core.collections.stk_results import handle_stk_results
from vault_core.disbursements.results import handle_b2c_results, handle_b2c_timeouts
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE, sealed_body_binding
from vault_core.query_answers import handle_query_results
from vault_pipelines.streams.mifos_events import handle_hooks

STORE = text(
    """
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, body_sealed, body_bytes, parsed,
                                next_sweep_at)
    VALUES (:id, :partner_id, :purpose, :topic, :now, '', '', :sealed, 0, true, :now)
    """
)
HANDLERS = {
    "c2b_confirmation": (handle_confirmations, "confirmation"),
    "stk_result": (handle_stk_results, "stk callback"),
    "b2c_result": (handle_b2c_results, "result"),
    "b2c_timeout": (handle_b2c_timeouts, "queue timeout"),
    "query_result": (handle_query_results, "result"),
    "mifos_hook": (handle_hooks, "payment hook"),
}
BODIES = 60


@pytest.mark.usefixtures("umoja")
async def test_every_damaged_body_has_an_effect_or_a_cause_and_holds_back_no_other(umoja):  # noqa: F811 - the fixture
    runtime, chance = umoja.runtime, random.Random(9)
    kept: dict = {}
    for purpose, (handler, kind) in HANDLERS.items():
        seeds = samples(PARSERS[kind])
        bodies = {runtime.new_id(): damage(chance, seeds).replace(b"600995", b"600100") for _ in range(BODIES)}
        async with runtime.engine.begin() as connection:
            for event_id, body in bodies.items():
                row = {"id": event_id, "partner_id": umoja.partner.id, "purpose": purpose, "topic": TOPIC_OF_PURPOSE[purpose]}
                sealed = runtime.sealer.seal(body, bound_to=sealed_body_binding(event_id))
                await connection.execute(STORE, row | {"now": runtime.clock.now(), "sealed": sealed})
        await handler(runtime, umoja.connections, list(bodies))
        kept |= bodies

    rows = await umoja.rows("SELECT id, purpose, state, effect, cause, body_sealed FROM inbound_events")
    assert len(rows) == len(HANDLERS) * BODIES
    for row in rows:
        assert runtime.sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)) == kept[row.id]
        assert (row.state, bool(row.effect), bool(row.cause)) in {("processed", True, False), ("exception", False, True)}, row
    states = {(row.purpose, row.state) for row in rows}
    assert {("c2b_confirmation", "exception"), ("mifos_hook", "processed")} <= states
