"""How often the directory reads, over a table of the test's own."""

import asyncio
from uuid import UUID

import pytest

from callback_receiver.token_directory import TokenDirectory, TokenOwner
from vault_core.errors import Unreachable

TOKEN = "ab" * 20
OWNER = TokenOwner(UUID(int=1), "b2c_result")


class Directory(TokenDirectory):
    """Reads from a dictionary, as slowly as its gate opens."""

    def __init__(self, sealer, now=lambda: 100.0):
        super().__init__(None, sealer, monotonic=now)
        self.table: dict[str, TokenOwner] = {}
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.away = False

    async def read(self) -> None:
        self.reads += 1
        self.began.set()
        snapshot = {self._sealer.token_hash(token): owner for token, owner in self.table.items()}
        await self.gate.wait()
        if self.away:
            raise Unreachable("no database")
        self._by_hash, self._seen = snapshot, {}


async def test_a_known_token_needs_no_read(sealer):
    directory = Directory(sealer)
    directory.table[TOKEN] = OWNER
    await directory.read()
    assert directory.known(TOKEN) == OWNER
    assert directory.known("cd" * 20) is None
    assert directory.reads == 1


async def test_any_number_of_unknown_tokens_at_once_share_one_read(sealer):
    directory = Directory(sealer)
    found = await asyncio.gather(*(directory.find(f"{number:040x}") for number in range(150)))
    assert found == [None] * 150
    assert directory.reads == 1
    assert directory._seen == {}


async def test_a_token_that_was_added_while_a_read_was_under_way_is_found_by_the_next(sealer):
    directory = Directory(sealer)
    directory.gate.clear()
    early = asyncio.create_task(directory.find("cd" * 20))
    await directory.began.wait()
    directory.table[TOKEN] = OWNER
    late = asyncio.create_task(directory.find(TOKEN))
    await asyncio.sleep(0)
    directory.gate.set()
    assert await early is None
    assert await late == OWNER
    assert directory.reads == 2


async def test_reads_for_unknown_tokens_keep_their_distance(sealer):
    times = iter([0.0, 0.0, 0.45, 10.0])
    directory = TokenDirectory(None, sealer, monotonic=lambda: next(times))
    directory._read_at = 0.0
    began = asyncio.get_running_loop().time()

    async def read() -> None:
        pass

    directory.read = read
    await directory._read_when_allowed()
    assert asyncio.get_running_loop().time() - began >= 0.45


async def test_when_the_table_cannot_be_read_a_token_is_not_called_unknown(sealer):
    directory = Directory(sealer)
    directory.away = True
    with pytest.raises(Unreachable):
        await directory.find(TOKEN)


async def test_too_many_waiting_are_told_to_come_back(sealer):
    directory = Directory(sealer)
    directory.gate.clear()
    waiting = [asyncio.create_task(directory.find(f"{number:040x}")) for number in range(200)]
    await asyncio.sleep(0)
    with pytest.raises(Unreachable):
        await directory.find(TOKEN)
    directory.gate.set()
    assert await asyncio.gather(*waiting) == [None] * 200


async def test_a_revoked_token_is_forgotten_at_the_next_read(sealer):
    directory = Directory(sealer)
    directory.table[TOKEN] = OWNER
    await directory.read()
    assert directory.known(TOKEN) == OWNER
    del directory.table[TOKEN]
    await directory.read()
    assert directory.known(TOKEN) is None
