"""Making claimed calls in chunks so that one that fails for good holds back none of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy.exc import DataError, IntegrityError, InternalError, ProgrammingError

from vault_core.errors import PermanentError
from vault_core.outbox.calls import Call

log = structlog.get_logger(__name__)

# What trying the same calls together again would not cure: faults of a row, or of the code that meets it. Anything else (the
# database is away) ends the work at once.
FOR_GOOD = (
    PermanentError,
    IntegrityError,
    DataError,
    ProgrammingError,
    InternalError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
)


async def work_apart(
    calls: Sequence[Call], at_once: int, work: Callable[[Sequence[Call]], Awaitable[None]], *, side_by_side: int = 1
) -> None:
    """Has `work` make `calls`, `at_once` together; if they fail for good, each by itself, after which the others go on.

    `side_by_side` such chunks are under way at a time, so that one is recorded while the next is made. `work` must be safe to
    repeat and must record the result of each call. At the end the first failure of a single call is raised, so that whoever
    called records it for the calls that are still open. What may pass ends the work: no chunk is begun after it, and it is
    raised when those under way have ended.
    """
    failures: list[Exception] = []
    ending: list[BaseException] = []
    turns = asyncio.Semaphore(side_by_side)

    async def one(chunk: Sequence[Call]) -> None:
        async with turns:
            if ending:
                return
            try:
                failures.extend(await _together(chunk, work))
            except BaseException as error:
                ending.append(error)
                raise

    chunks = [calls[start : start + at_once] for start in range(0, len(calls), at_once)]
    await asyncio.gather(*(one(chunk) for chunk in chunks), return_exceptions=True)
    for error in [*ending, *failures][:1]:
        raise error


async def _together(chunk: Sequence[Call], work: Callable[[Sequence[Call]], Awaitable[None]]) -> list[Exception]:
    try:
        await work(chunk)
    except FOR_GOOD as error:
        return [error] if len(chunk) == 1 else await _each(chunk, work)
    return []


async def _each(calls: Sequence[Call], work: Callable[[Sequence[Call]], Awaitable[None]]) -> list[Exception]:
    failures: list[Exception] = []
    for call in calls:
        try:
            await work([call])
        except FOR_GOOD as error:
            log.warning("a call failed by itself", kind=call.kind, subject=str(call.subject), error=type(error).__name__)
            failures.append(error)
    return failures
