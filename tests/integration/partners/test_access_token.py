"""One M-Pesa token for all processes: two stores on one database stand for two processes."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from vault_core.errors import LoginRefused, SealBroken
from vault_core.partners.access_token import AccessTokens
from vault_core.partners.registration import register_partner

HOUR = timedelta(seconds=3600)


class Gateway:
    """Gives tokens and counts them; each new one ends the one before."""

    def __init__(self, lifetime: timedelta = HOUR) -> None:
        self.given = 0
        self.lifetime = lifetime

    @property
    def valid(self) -> str:
        return f"token-{self.given}"

    async def fetch(self) -> tuple[str, timedelta]:
        self.given += 1
        await asyncio.sleep(0)
        return self.valid, self.lifetime


@pytest.fixture
async def partner(runtime, described):
    return await register_partner(runtime, described, actor="a")


async def test_many_tasks_of_many_processes_fetch_one_token(runtime, partner):
    gateway = Gateway()
    processes = [AccessTokens(runtime, partner.id) for _ in range(4)]
    tokens = await asyncio.gather(*(process.token(gateway.fetch) for process in processes for _ in range(10)))
    assert set(tokens) == {"token-1"}
    assert gateway.given == 1


async def test_a_token_is_replaced_five_minutes_before_it_ends_and_not_before(runtime, partner, clock):
    gateway = Gateway()
    tokens = AccessTokens(runtime, partner.id)
    await tokens.token(gateway.fetch)
    clock.pass_time(seconds=3600 - 301)
    assert await tokens.token(gateway.fetch) == "token-1"
    clock.pass_time(seconds=2)
    assert await tokens.token(gateway.fetch) == "token-2"


async def test_a_refused_token_is_replaced_once_though_many_were_refused_with_it(runtime, partner):
    gateway = Gateway()
    processes = [AccessTokens(runtime, partner.id) for _ in range(3)]
    (old,) = {await process.token(gateway.fetch) for process in processes}
    tokens = await asyncio.gather(*(process.token(gateway.fetch, refused=old) for process in processes for _ in range(5)))
    assert set(tokens) == {"token-2"}
    assert gateway.given == 2


async def test_a_process_whose_copy_is_old_takes_the_stored_token_and_fetches_none(runtime, partner):
    gateway = Gateway()
    first, second = AccessTokens(runtime, partner.id), AccessTokens(runtime, partner.id)
    old = await first.token(gateway.fetch)
    await second.token(gateway.fetch, refused=old)
    assert await first.token(gateway.fetch, refused=old) == "token-2"
    assert gateway.given == 2


async def test_a_short_lived_token_is_still_used_for_half_its_life(runtime, partner, clock):
    gateway = Gateway(timedelta(seconds=40))
    tokens = AccessTokens(runtime, partner.id)
    await tokens.token(gateway.fetch)
    clock.pass_time(seconds=19)
    assert await tokens.token(gateway.fetch) == "token-1"
    clock.pass_time(seconds=2)
    assert await tokens.token(gateway.fetch) == "token-2"


async def test_a_refused_key_passes_through_and_stores_nothing(runtime, partner):
    async def refuse():
        raise LoginRefused("wrong key", code="401")

    tokens = AccessTokens(runtime, partner.id)
    with pytest.raises(LoginRefused):
        await tokens.token(refuse)
    assert await tokens.token(Gateway().fetch) == "token-1"


async def test_a_token_sealed_for_another_partner_does_not_open(runtime, partner):
    await AccessTokens(runtime, partner.id).token(Gateway().fetch)
    async with runtime.engine.begin() as connection:
        sealed = runtime.sealer.seal("token-9", bound_to=f"access_tokens:{runtime.new_id()}:mpesa")
        await connection.execute(text("UPDATE access_tokens SET sealed = :sealed"), {"sealed": sealed})
    with pytest.raises(SealBroken):
        await AccessTokens(runtime, partner.id).token(Gateway().fetch)
