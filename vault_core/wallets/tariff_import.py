"""Price lists brought into the database, ended and taken back. Each act is audited; the database keeps the lists whole."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.ledger.refusals import ledger_refusals
from vault_core.runtime import Runtime
from vault_core.wallets.new_tariff import Difference, NewTariff, content_of, differences
from vault_core.wallets.tariffs import Tariff, TariffBook, load_tariffs

_LOCK = text("SELECT tariff_lock(:provider, :product)")
_IMPORT = text(
    """
    SELECT ended FROM tariff_import(:now, :by, :provider, :product, :valid_from, :valid_to, :source, :note, :step, :excise_rate,
        :excise_included, :rounding, :lows, :highs, :fees, :customer_fees, :rates, :confirmed, :notes)
    """
)
_END = text("SELECT tariff_end(:provider, :product, :valid_from, :valid_to)")
_WITHDRAW = text("SELECT resumed FROM tariff_withdraw(:now, :provider, :product, :valid_from)")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or with a dry run would do.

    `repeated`: the list stood already, nothing changed. `ended` is the list that it ends, `against` the one before it and
    `changes` in what they differ; `unpriced_from` the day from which no list holds until it begins.
    """

    tariff: NewTariff
    repeated: bool = False
    ended: Tariff | None = None
    against: Tariff | None = None
    changes: tuple[Difference, ...] = ()
    unpriced_from: date | None = None


async def import_tariff(runtime: Runtime, new: NewTariff, actor: str, *, dry_run: bool = False) -> Imported:
    """Brings `new` into force from its first day on, ending the open list before it there.

    The same list again changes nothing, and so does a dry run, which is judged in full. Raises Conflict where a list with other
    content begins on that day (naming the differences), where another list holds, or where a charge of that day or later used
    the list that would end; InvalidInput where its bands are not whole.
    """

    async def work(connection: AsyncConnection) -> Imported:
        await connection.execute(_LOCK, {"provider": new.provider, "product": new.product})
        standing = _lists_of((await load_tariffs(connection)).tariffs, new.provider, new.product)
        for one in standing:
            if one.valid_from == new.valid_from:
                return _repeated(one, new)
        before = next((one for one in standing if one.valid_from < new.valid_from), None)
        with ledger_refusals(f"import of {new.name}"):
            ended = (await connection.execute(_IMPORT, _parameters(runtime, new, actor))).scalar_one()
        done = Imported(
            new,
            ended=before if before is not None and before.valid_from == ended else None,
            against=before,
            changes=() if before is None else tuple(differences(content_of(before), new)),
            unpriced_from=before.valid_to if before is not None and before.valid_to != new.valid_from else None,
        )
        if dry_run:
            await connection.rollback()
        else:
            await _record_import(connection, runtime, done, actor)
        return done

    return await in_transaction(runtime.engine, work)


async def end_tariff(runtime: Runtime, provider: str, product: str, day: date, actor: str, reason: str) -> Tariff:
    """Ends the list in force before `day`: on `day` it no longer holds. Returns it; if it ends there already, nothing changes.

    Raises NotFound where none holds then, Conflict where a charge of `day` or later used it or the next list already holds.
    """
    _need_reason(reason)

    async def work(connection: AsyncConnection) -> Tariff:
        await connection.execute(_LOCK, {"provider": provider, "product": product})
        standing = _lists_of((await load_tariffs(connection)).tariffs, provider, product)
        ending = next((one for one in standing if one.valid_from < day), None)
        if ending is None:
            raise NotFound(f"no {provider} {product} list begins before {day}: `vault tariff list` shows them")
        if ending.valid_to == day:
            return ending
        if ending.valid_to is not None and ending.valid_to < day:
            raise Conflict(
                f"{ending.name} has ended on {ending.valid_to}: a list that ended is followed by the next, not prolonged"
            )
        with ledger_refusals(f"end of {ending.name}"):
            await connection.execute(
                _END, {"provider": provider, "product": product, "valid_from": ending.valid_from, "valid_to": day}
            )
        await _record(
            connection,
            runtime,
            actor,
            "tariff.ended",
            ending.name,
            before={"valid_to": _day_text(ending.valid_to)},
            after={"valid_to": str(day)},
            reason=reason,
        )
        return replace(ending, valid_to=day)

    return await in_transaction(runtime.engine, work)


async def withdraw_tariff(
    runtime: Runtime, provider: str, product: str, valid_from: date, actor: str, reason: str
) -> Tariff | None:
    """Takes back the list that begins on `valid_from`, which no charge has used. Returns the list that holds on in its place.

    Raises NotFound where no list begins that day, Conflict where a charge used it.
    """
    _need_reason(reason)

    async def work(connection: AsyncConnection) -> Tariff | None:
        await connection.execute(_LOCK, {"provider": provider, "product": product})
        standing = _lists_of((await load_tariffs(connection)).tariffs, provider, product)
        gone = next((one for one in standing if one.valid_from == valid_from), None)
        if gone is None:
            raise NotFound(f"no {provider} {product} list begins on {valid_from}: `vault tariff list` shows them")
        with ledger_refusals(f"withdrawal of {gone.name}"):
            resumed = (
                await connection.execute(
                    _WITHDRAW,
                    {"now": runtime.clock.now(), "provider": provider, "product": product, "valid_from": valid_from},
                )
            ).scalar_one()
        await _record(
            connection,
            runtime,
            actor,
            "tariff.withdrawn",
            gone.name,
            before={"valid_to": _day_text(gone.valid_to)},
            after={"resumed": _day_text(resumed)},
            reason=reason,
        )
        return next((replace(one, valid_to=gone.valid_to) for one in standing if one.valid_from == resumed), None)

    return await in_transaction(runtime.engine, work)


def compare(book: TariffBook, new: NewTariff) -> tuple[Tariff | None, list[Difference]]:
    """The list of the same product and first day in `book`, and in what `new` differs from it. None: there is no such list."""
    standing = next((one for one in _lists_of(book.tariffs, new.provider, new.product) if one.valid_from == new.valid_from), None)
    return standing, [] if standing is None else _content_differences(standing, new)


def _repeated(standing: Tariff, new: NewTariff) -> Imported:
    found = _content_differences(standing, new)
    if found:
        lines = "\n".join(f"  {one}" for one in found)
        raise Conflict(
            f"{new.name} stands already, with other content:\n{lines}\n"
            f"Give the new prices a later valid_from; or, if no charge has used the list, take it back first: "
            f"vault tariff withdraw {new.provider} {new.product} {new.valid_from}"
        )
    return Imported(new, repeated=True)


def _content_differences(standing: Tariff, new: NewTariff) -> list[Difference]:
    # A file that gives no end says nothing of it: the successor ends the list.
    found = differences(content_of(standing), new)
    if new.valid_to is not None and new.valid_to != standing.valid_to:
        found.insert(0, Difference("valid_to", _day_text(standing.valid_to) or "none", str(new.valid_to)))
    return found


def _lists_of(tariffs: Iterable[Tariff], provider: str, product: str) -> list[Tariff]:
    return [one for one in tariffs if (one.provider, one.product) == (provider, product)]


def _parameters(runtime: Runtime, new: NewTariff, actor: str) -> dict[str, Any]:
    return {
        "now": runtime.clock.now(),
        "by": actor,
        "provider": new.provider,
        "product": new.product,
        "valid_from": new.valid_from,
        "valid_to": new.valid_to,
        "source": new.source,
        "note": new.note,
        "step": new.step.cents,
        "excise_rate": new.excise_rate_basis_points,
        "excise_included": new.excise_included,
        "rounding": new.rounding,
        "lows": [band.low.cents for band in new.bands],
        "highs": [band.high.cents for band in new.bands],
        "fees": [band.fee.cents for band in new.bands],
        "customer_fees": [band.customer_fee.cents for band in new.bands],
        "rates": [band.rate_basis_points for band in new.bands],
        "confirmed": [band.confirmed for band in new.bands],
        "notes": [band.note for band in new.bands],
    }


async def _record_import(connection: AsyncConnection, runtime: Runtime, done: Imported, actor: str) -> None:
    await _record(
        connection,
        runtime,
        actor,
        "tariff.imported",
        done.tariff.name,
        after={
            "valid_to": _day_text(done.tariff.valid_to),
            "source": done.tariff.source,
            "bands": len(done.tariff.bands),
            "unconfirmed": sum(not band.confirmed for band in done.tariff.bands),
            "ended": None if done.ended is None else done.ended.name,
        },
    )


async def _record(connection: AsyncConnection, runtime: Runtime, actor: str, act: str, name: str, **what: Any) -> None:
    await record_act(connection, runtime.clock, runtime.new_id, actor=actor, act=act, subject=f"tariff {name}", **what)


def _need_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput("a reason is needed, for the audit trail: --reason")


def _day_text(day: date | None) -> str | None:
    return None if day is None else str(day)
