from sqlalchemy import text

from vault_core.ledger.chart import CHART, ChartAccount
from vault_core.runtime import Runtime


async def test_the_database_holds_postings_to_the_same_chart(runtime: Runtime) -> None:
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(text("SELECT code, house, normal_side, holdable, shards FROM ledger_chart"))
        assert {row.code: ChartAccount(row.code, row.house, row.normal_side, row.holdable, row.shards) for row in rows} == CHART
