"""Sending: claim, read the loan again, pay, record; many at once, each instruction written before it is sent."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja import B2CAck, B2CInstruction, DarajaClient
from vault_core.clients.mifos import ApprovedLoan, MifosClient
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.disbursements.answers import Answered, record_answers
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim, most_under_way
from vault_core.disbursements.closed_days import ClosedDays, held_for_closed_day
from vault_core.disbursements.eligibility import Held
from vault_core.disbursements.instructions import Claimed
from vault_core.disbursements.lender_calendars import closed_days
from vault_core.disbursements.loan_check import Changed, NotApproved, ToPay, Unchanged, check_client, check_loan
from vault_core.disbursements.send_pace import SendPace
from vault_core.disbursements.sending_gate import FRESH, SendingGate
from vault_core.errors import NotFound, TransientError, VaultError
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.postings.mifos_outages import is_away
from vault_core.runtime import Runtime
from vault_core.wallets.charges import TariffBook, load_tariffs

log = structlog.get_logger(__name__)

MIFOS_READS_AT_ONCE = 16  # a partner's server has a pool of 10 database connections (reference/fineract.md section 8)
_ROW_BATCH = 100
_FULL_WAIT = 0.2  # seconds until another look

_BATCH = text("SELECT partner_id FROM disbursement_batches WHERE id = :id")
_FINISH = text("UPDATE disbursement_batches SET finished_at = :now WHERE id = :id")
_PARTNERS_OF = text("SELECT id, partner_id FROM disbursements WHERE id = ANY(:ids) AND state = 'ready' ORDER BY partner_id, id")


@dataclass(slots=True)
class SendReport:
    """How many instructions went which way, and how many loans were held back instead of being sent."""

    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    not_sent: int = 0
    held: int = 0

    def count(self, answer: Answered) -> None:
        """Counts one answer."""
        match answer.outcome:
            case Accepted():
                self.accepted += 1
            case Refused():
                self.refused += 1
            case Unknown():
                self.unknown += 1
            case _:
                self.not_sent += 1


async def send_batch(runtime: Runtime, connections: Connections, batch_id: UUID) -> SendReport:
    """Sends all that is ready in the batch, then marks it finished. Raises NotFound for a batch that does not exist.

    May be called again, or by two processes at once: what one has claimed the other passes by.
    """
    async with runtime.engine.connect() as connection:
        partner_id = (await connection.execute(_BATCH, {"id": batch_id})).scalar_one_or_none()
    if partner_id is None:
        raise NotFound(f"there is no disbursement batch {batch_id}")
    report = SendReport()
    await _Sender.send(runtime, connections, partner_id, Selection(batch_id=batch_id), report)
    await in_transaction(runtime.engine, partial(_finish_batch, runtime, batch_id))
    return report


async def _finish_batch(runtime: Runtime, batch_id: UUID, connection: AsyncConnection) -> None:
    await connection.execute(_FINISH, {"id": batch_id, "now": runtime.clock.now()})


async def send_ready(runtime: Runtime, connections: Connections, disbursement_ids: Sequence[UUID]) -> SendReport:
    """Sends those of the disbursements that are ready, of any partners. The loan of a web hook does not wait for a batch.

    But one that finds all of its partner's slots taken by other processes is left to the next batch.
    The partners side by side: one whose M-Pesa is slow holds up none of the others. A failure is raised when all have ended.
    """
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_PARTNERS_OF, {"ids": list(disbursement_ids)})).all()
    by_partner: dict[UUID, list[UUID]] = {}
    for row in rows:
        by_partner.setdefault(row.partner_id, []).append(row.id)
    report = SendReport()
    sends = [
        _Sender.send(runtime, connections, partner_id, Selection(ids=tuple(ids)), report)
        for partner_id, ids in by_partner.items()
    ]
    for failure in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(failure, BaseException):
            raise failure
    return report


class _Sender:
    """One selection of one partner on its way out."""

    def __init__(
        self,
        runtime: Runtime,
        connections: Connections,
        partner: Partner,
        mifos: MifosClient,
        daraja: DarajaClient,
        tariffs: TariffBook,
        report: SendReport,
    ) -> None:
        self._runtime = runtime
        self._connections = connections
        self._partner = partner
        self._mifos = mifos
        self._daraja = daraja
        self._tariffs = tariffs
        self._report = report
        self._reads = asyncio.Semaphore(MIFOS_READS_AT_ONCE)
        self._answers: asyncio.Queue[Answered] = asyncio.Queue()
        self._gate = SendingGate(runtime, partner.id)
        self._pace = SendPace(runtime, partner.id)
        self._asking = asyncio.Lock()
        self._reading_days = asyncio.Lock()
        self._closed_days: dict[tuple[int | None, date], ClosedDays] = {}

    @classmethod
    async def send(
        cls, runtime: Runtime, connections: Connections, partner_id: UUID, which: Selection, report: SendReport
    ) -> None:
        async with runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        sender = cls(
            runtime,
            connections,
            await connections.partner(partner_id),
            await connections.mifos(partner_id),
            await connections.daraja(partner_id),
            tariffs,
            report,
        )
        await sender._run(which)

    async def _run(self, which: Selection) -> None:
        # If recording fails, the group cancels what is under way: those instructions stay written, and recovery asks about them.
        try:
            async with asyncio.TaskGroup() as group:
                recorder = group.create_task(self._record())
                await self._claim_and_send(which)
                await self._answers.join()
                recorder.cancel()
        except BaseExceptionGroup as failed:
            raise _first_cause(failed) from failed

    async def _claim_and_send(self, which: Selection) -> None:
        room = most_under_way(self._runtime.pace)
        under_way: set[asyncio.Task[None]] = set()
        more = True
        async with asyncio.TaskGroup() as group:
            while more or under_way:
                if more and len(under_way) <= room // 2:
                    found = await claim(
                        self._runtime, self._tariffs, self._partner.id, which, min(room - len(under_way), _ROW_BATCH)
                    )
                    self._report.held += found.held
                    under_way |= {group.create_task(self._send_one(item)) for item in found.claimed}
                    more = not found.is_empty
                    if not found.full:
                        continue
                if not under_way:  # other processes have all that may be under way, for minutes if one of them died
                    if which.batch_id is None:
                        break  # the next batch takes them; the hooks of all other lenders wait behind this one
                    await asyncio.sleep(_FULL_WAIT)
                    continue
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()

    async def _send_one(self, item: Claimed) -> None:
        try:
            outcome = await self._read_and_pay(item)
        except VaultError as error:
            # Nothing was sent: only reading the loan and writing the request raise.
            log.warning("payout not sent", loan=item.loan_account_no, cause=str(error))
            outcome = await self._not_sent(error)
        self._answers.put_nowait(Answered(item, outcome))

    async def _not_sent(self, error: VaultError) -> Held | Refused:
        """Waits for a Mifos X that is away, and that is no try; what cannot be done while it is there counts as one."""
        if isinstance(error, TransientError):
            async with self._asking:  # one for all that are under way
                shut = await self._gate.shut(anew=True)
                if shut is None and await is_away(self._runtime, self._connections, self._partner.id):
                    shut = await self._gate.shut(anew=True)
            if shut is not None:
                return shut
        return Refused("not_sent", str(error), Refusal.RETRY_LATER)

    async def _read_and_pay(self, item: Claimed) -> Outcome[B2CAck] | Changed | NotApproved | Held:
        if (shut := await self._gate.shut()) is not None:
            return shut
        try:
            async with self._reads:
                loan = await self._mifos.loan(item.loan_id)
                person = await self._mifos.client(item.number_of) if item.number_of is not None else None
        except NotFound:
            return NotApproved("Mifos X no longer shows the loan or its client to our user: check the user's office and the loan")
        wanted = ToPay(item.tranche, item.principal, item.amount, item.approved_on, item.phone)
        today = business_day(self._runtime.clock.now())
        check = check_loan(loan, wanted, today=today)
        if isinstance(check, Unchanged) and person is not None:
            check = check_client(person, wanted)
        if not isinstance(check, Unchanged):
            return check
        if item.tranche == 1 and (closed := await self._closed(item, loan, today)) is not None:
            return closed
        if (shut := await self._turn()) is not None:
            return shut
        left = (item.send_by - self._runtime.clock.now()).total_seconds()
        if left <= 0:
            return Refused("not_sent", "its turn came too late after its claim", Refusal.RETRY_LATER)
        if loan.top_up and business_day(self._runtime.clock.now()) != today:
            return Refused("not_sent", "a day's interest came to the older loan since it was read", Refusal.RETRY_LATER)
        try:
            # Waiting for an access token can take long, too. Recovery counts on nobody sending it after this.
            async with asyncio.timeout(left + self._runtime.pace.http_timeout):
                return await self._pay(item)
        except TimeoutError:
            return Unknown("given up at the end of its time: it may or may not have been sent")

    async def _closed(self, item: Claimed, loan: ApprovedLoan, today: date) -> Held | None:
        """What was found on another day, or waited over midnight: Mifos X may take no disbursal today."""
        office, only = (loan.office_id, today), item.expected_day_only
        async with self._reading_days:  # one for all that are under way
            if office not in self._closed_days:
                self._closed_days[office] = await closed_days(self._runtime, self._connections, self._partner.id, [loan])
        known = self._closed_days[office]
        return held_for_closed_day(known, loan.office_id, expected=loan.expected_on, today=today, expected_day_only=only)

    async def _pay(self, item: Claimed) -> Outcome[B2CAck] | Held:
        shut: Held | None = None

        async def may_go() -> bool:  # sending may have been stopped while the access token was fetched
            nonlocal shut
            shut = await self._gate.shut()
            return shut is None

        outcome = await self._daraja.pay(self._instruction(item), may_go=may_go)
        return outcome if shut is None else shut

    async def _turn(self) -> Held | None:
        """Waits for this send's slot; ends at once, with the reason, when sending is stopped before it or meanwhile."""
        slot = asyncio.create_task(self._pace.turn())
        try:
            while True:
                if (shut := await self._gate.shut()) is not None or slot.done():
                    break
                await asyncio.wait({slot}, timeout=FRESH)
            if shut is None:
                slot.result()
            return shut
        finally:
            slot.cancel()

    def _instruction(self, item: Claimed) -> B2CInstruction:
        reference = item.attempt_id.hex
        return B2CInstruction(
            originator_conversation_id=item.originator_conversation_id,
            amount=item.amount,
            phone=item.phone,
            short_code=self._partner.b2c_short_code,
            command=self._partner.b2c_command,
            remarks=f"Loan {item.loan_account_no}",
            occasion=reference,
            result_url=callback_url(self._runtime, self._partner.id, "b2c_result", reference),
            timeout_url=callback_url(self._runtime, self._partner.id, "b2c_timeout", reference),
            resend=item.maybe_seen,
        )

    async def _record(self) -> None:
        while True:
            answers = [await self._answers.get()]
            while not self._answers.empty() and len(answers) < _ROW_BATCH:
                answers.append(self._answers.get_nowait())
            await record_answers(self._runtime, answers)
            for answer in answers:
                self._report.count(answer)
                self._answers.task_done()


def _first_cause(failed: BaseException) -> BaseException:
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    return failed
