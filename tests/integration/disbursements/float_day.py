"""A lender's day with a float that a test chooses, whose workers look, ask and audit when the test says so."""

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from tests.integration.disbursements.conftest import SHORT_CODE, Day, loan
from vault_core.disbursements.balance_queries import ask_balances
from vault_core.disbursements.float_reports import read_float
from vault_core.disbursements.float_watch import watch_floats
from vault_core.disbursements.sending import send_ready
from vault_core.money import Money


@asynccontextmanager
async def short_day(open_day: Any, shillings: int, *loans: int):
    """A day whose short code has so much float, and loans 1, 2, 3 ... of so many shillings."""
    async with open_day([loan(number, 100 * amount) for number, amount in enumerate(loans, 1)]) as day:
        await day.fund(10_000)
        have = (await day.truth())["mpesa"]["short_codes"][SHORT_CODE]["utility_cents"]
        await buy(day, shillings - have // 100)
        await later(day)
        await day.poll()
        yield day


async def buy(day: Day, shillings: int) -> None:
    await day.control("float", {"short_code": SHORT_CODE, "utility_cents": shillings * 100})


async def later(day: Day, **amount: float) -> None:
    """Time passes here and at M-Pesa, whose clock is half a minute ahead. Never less than real time took."""
    day.clock.pass_time(**(amount or {"seconds": 20}))
    await day.control("settings", {"now": (day.clock.now() + timedelta(seconds=30)).isoformat()})


async def send_first(day: Day) -> None:
    """Loan 1 is sent and paid: its result tells a balance."""
    await send_ready(day.runtime, day.connections, [(await day.loan_row(1))["id"]])
    await day.hear("b2c_result")
    assert (await day.states())[1] == "paid"
    await later(day)


async def go_on(day: Day) -> int:
    """What the workers do a little later: look, send what may go, hear the results."""
    await later(day)
    released = await watch_floats(day.runtime)
    await day.send()
    await day.hear("b2c_result")
    return released


async def ask(day: Day) -> int:
    """Asks for the balance if it is due, and hears the answer."""
    await later(day)
    asked = await ask_balances(day.runtime, day.connections)
    await day.hear("query_result")
    return asked


async def expected(day: Day) -> Money | None:
    async with day.runtime.engine.connect() as connection:
        return (await read_float(connection, day.partner.id)).expected


async def held_for(day: Day) -> dict[int, str | None]:
    return {row["loan_id"]: row["held_for"] for row in await day.rows("SELECT loan_id, held_for FROM disbursements")}
