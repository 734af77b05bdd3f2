"""Answers M-Pesa's questions whether a payment may be taken, from local data and within a bound, whatever the database does.

Questions that arrive together are answered by one transaction. The rules are in vault_core/collections/validation.py.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from callback_receiver.metrics import Metrics
from vault_core.collections.validating import (
    ValidatedPartner,
    Validation,
    answer_questions,
    keep_answers,
    load_validated_partners,
    read_question,
)
from vault_core.collections.validation import Verdict, unknown
from vault_core.inbox.receiving import Arrival
from vault_core.partners.collection_settings import CollectionSettings
from vault_core.secrets import Sealer

log = structlog.get_logger(__name__)

_FAILED = (SQLAlchemyError, OSError, TimeoutError)
_BATCH_MOST = 100
_UNKEPT_MOST = 1000  # answers given while the database was away that are kept when it is back
_READ_WITHIN = 5.0
_BETWEEN_WARNINGS = 5.0


class ValidationDesk:
    """One a receiver process. `run` it with some writers; `follow` keeps the partners' settings."""

    def __init__(
        self,
        engine: AsyncEngine,
        sealer: Sealer,
        metrics: Metrics,
        *,
        within: float,
        believed_for: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._sealer = sealer
        self._metrics = metrics
        self._within = within
        self._believed_for = believed_for
        self._monotonic = monotonic
        self._partners: dict[UUID, ValidatedPartner] = {}
        self._waiting: deque[tuple[Validation, asyncio.Future[Verdict]]] = deque()
        self._unkept: deque[tuple[Validation, Verdict]] = deque(maxlen=_UNKEPT_MOST)
        self._arrived = asyncio.Event()
        self._warned = float("-inf")

    async def answer(self, arrival: Arrival) -> Verdict:
        """The answer to a stored question, at most `within` seconds later. Never raises; every refusal is in the log."""
        started = self._monotonic()
        partner = self._partners.get(arrival.partner_id)
        if partner is None:  # no settings read yet: what nobody set is the default
            return self._counted(unknown("the partner's settings are not read yet", CollectionSettings()), started)
        question = read_question(arrival.id, partner, arrival.body, arrival.received_at)
        verdict = question.verdict
        if verdict is None or not verdict.plain:
            verdict = await self._ask(question)
        if not verdict.plain:
            log.info(
                "payment refused" if verdict.refused else "payment accepted without knowing",
                partner=partner.name,
                receipt=None if question.asked is None else question.asked.receipt,
                event_id=str(arrival.id),
                code=verdict.code.value,
                reason=verdict.reason,
            )
        return self._counted(verdict, started)

    async def run(self) -> None:
        """Answers what waits, until cancelled."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = [self._waiting.popleft() for _ in range(min(_BATCH_MOST, len(self._waiting)))]
            # One whose time is up has its answer already.
            if open_ones := [(question, answered) for question, answered in batch if not answered.done()]:
                await self._answer(open_ones)

    async def follow(self, every: float) -> None:
        """Reads the partners' settings every `every` seconds until cancelled; while the database is away, the last ones stay."""
        while True:
            try:
                async with asyncio.timeout(_READ_WITHIN), self._engine.connect() as connection:
                    self._partners = await load_validated_partners(connection)
                await self._keep_late()
            except _FAILED as error:
                self._warn("validation settings not renewed", error)
            await asyncio.sleep(every)

    async def _ask(self, question: Validation) -> Verdict:
        """What the database says; the answer decided without it, or the partner's setting, where it does not in time."""
        answered: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answered))
        self._arrived.set()
        try:
            async with asyncio.timeout(self._within):
                return await answered
        except TimeoutError:
            verdict = question.verdict or unknown("the database did not answer in time", question.partner.settings)
            self._unkept.append((question, verdict))
            return verdict

    async def _answer(self, batch: list[tuple[Validation, "asyncio.Future[Verdict]"]]) -> None:
        bound = timedelta(seconds=self._within)
        try:
            async with asyncio.timeout(self._within), self._engine.begin() as connection:
                questions = [question for question, _ in batch]
                verdicts = await answer_questions(
                    connection, self._sealer, questions, believed_for=self._believed_for, within=bound
                )
        except _FAILED as error:
            # Nobody is told: each one's own time decides, and its answer is kept when the database is back.
            self._warn("validations not answered", error)
            return
        for (_, answered), verdict in zip(batch, verdicts, strict=True):
            if not answered.done():
                answered.set_result(verdict)

    async def _keep_late(self) -> None:
        late = list(self._unkept)
        if late:
            async with asyncio.timeout(_READ_WITHIN), self._engine.begin() as connection:
                await keep_answers(connection, self._sealer, late, late=True)
            for each in late:
                if self._unkept and self._unkept[0] is each:  # else it was pushed out meanwhile
                    self._unkept.popleft()

    def _counted(self, verdict: Verdict, started: float) -> Verdict:
        self._metrics.validation_seconds.observe(self._monotonic() - started)
        self._metrics.validations[verdict.code, verdict.known].inc()
        return verdict

    def _warn(self, what: str, error: Exception) -> None:
        if self._monotonic() - self._warned >= _BETWEEN_WARNINGS:
            self._warned = self._monotonic()
            log.warning(what, error=type(error).__name__)
