"""Runs a write as the real server runs it: filters, permission, the memory of the Idempotency-Key, the work, the hook.

The key is unique by (action, entity, key) for the whole tenant: not by user, resource or body. An empty header is a key.
A stored answer, good or bad, is replayed for ever with `x-served-from-cache: true`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from sandbox.asgi import Answer, Dropped, Request, json_answer
from sandbox.mifos.errors import (
    Fault,
    RefusalError,
    bad_json,
    client_not_active,
    conflict,
    integrity,
    locked_by_cob,
    not_authorized,
    not_found,
    spring,
)
from sandbox.mifos.hooks import Event, raise_event
from sandbox.mifos.host import SUPER, CommandRow, MifosHost, User
from sandbox.mifos.loan_commands import UnhandledError
from sandbox.pages import blocked_page
from sandbox.world import World

_FROM_CACHE = {"x-served-from-cache": "true"}
_LONGEST_KEY = 50
_MET_BY_FAULTS = frozenset(("DISBURSE", "REPAYMENT", "DEPOSIT"))  # what posts money; approvals are left in peace
_INTERNAL_TRIES = 4  # each raises a hook of its own


@dataclass(frozen=True, slots=True)
class Command:
    """One write. `unit` says what it is about ("loan:12"), `work` does it and may raise RefusalError."""

    action: str
    entity: str
    unit: str
    body: dict[str, Any]
    work: Callable[[], dict[str, Any]]
    loan_id: int | None = None
    cob_locked: bool = False

    @property
    def permission(self) -> str:
        """ACTION_ENTITY."""
        return f"{self.action}_{self.entity}"


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command that waits for a checker."""

    id: int
    maker: str
    command: Command
    row: CommandRow


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks which host of which world."""

    world: World
    host: MifosHost
    user: User
    request: Request

    @property
    def endpoint(self) -> str:
        """What the server takes for its own address."""
        own = self.request.path.split("/v1/", 1)[0]
        return f"http://{self.request.headers.get('host', 'localhost')}{own}/"


Groups = tuple[Any, ...]
Handler = Callable[[Caller, Groups], Awaitable[Answer | Dropped]]


def body_of(caller: Caller) -> dict[str, Any]:
    """The body of a command, which no command goes without. Raises the flat 400."""
    if not caller.request.body:
        raise bad_json("")
    return caller.request.json_object()


async def run_command(caller: Caller, command: Command) -> Answer | Dropped:
    """The whole life of one write."""
    refusal = _filters(caller, command)
    if refusal is not None:
        return refusal
    key = None if caller.host.legacy else caller.request.headers.get("idempotency-key")
    if key is None:
        return await _execute(caller, command, CommandRow(asyncio.Event()), keyed=False)
    if len(key) > _LONGEST_KEY:
        text = f"ERROR: value too long for type character varying({_LONGEST_KEY})"
        raise integrity(Fault(text, "error.msg.data.integrity.issue", None))
    place = (command.action, command.entity, key)
    row = caller.host.commands.get(place)
    if row is not None:
        return await _replay(caller, row)
    row = caller.host.commands[place] = CommandRow(asyncio.Event())
    return await _execute(caller, command, row, keyed=True)


def _filters(caller: Caller, command: Command) -> Answer | None:
    """What refuses before the command is written down; the same key works afterwards."""
    world, user = caller.world, caller.user
    if _fires(caller, command, "html_answer"):
        world.note(caller.request)
        return blocked_page()
    on_loans = command.loan_id is not None and "/interoperation/" not in caller.request.path
    if on_loans and command.loan_id is not None:
        switched = _fires(caller, command, "mifos_409_lock")
        if switched:
            world.note(caller.request)
        if switched or (command.cob_locked and SUPER not in user.permissions):
            return locked_by_cob(command.loan_id)
    if not user.may(command.permission):
        raise not_authorized(f"User has no authority to: {command.permission}")
    return None


async def _replay(caller: Caller, row: CommandRow) -> Answer:
    """The stored answer; or, after a wait, 425 with the body that was sent."""
    world = caller.world
    if row.answer is None and not row.stuck:
        try:
            await asyncio.wait_for(row.done.wait(), world.settings.in_process_ms / 1000)
        except TimeoutError:
            return _under_processing(caller)
    if row.answer is None or (row.hidden_until is not None and world.clock.now() < row.hidden_until):
        return _under_processing(caller)
    return Answer(row.answer.status, row.answer.body, _FROM_CACHE)


def _under_processing(caller: Caller) -> Answer:
    return Answer(425, caller.request.body, _FROM_CACHE)


async def _execute(caller: Caller, command: Command, row: CommandRow, *, keyed: bool) -> Answer | Dropped:
    world = caller.world
    await world.pause(world.settings.mifos_latency_ms)
    world.note(caller.request)
    if keyed and _fires(caller, command, "mifos_425_for_ever"):
        row.stuck = True
        return _under_processing(caller)
    if _fires(caller, command, "mifos_409_conflict"):
        row.answer = conflict()
        row.done.set()
        for _ in range(_INTERNAL_TRIES):
            _tell(caller, command, None, row.answer)
        return row.answer
    if _fires(caller, command, "mifos_403_client_not_active"):
        answer = row.answer = client_not_active().answer
        _tell(caller, command, None, answer)
    else:
        answer = _work(caller, command, row)
    if row.answer is not None:
        row.done.set()
    if answer.status != 200:
        return answer
    return await _answer_fault(caller, command, row, keyed=keyed) or answer


async def _answer_fault(caller: Caller, command: Command, row: CommandRow, *, keyed: bool) -> Answer | Dropped | None:
    """How the answer to a write that was posted goes wrong, when a switch wants it to."""
    world = caller.world
    if keyed and _fires(caller, command, "mifos_425"):
        row.hidden_until = world.clock.now() + timedelta(milliseconds=world.settings.hang_ms)
        return _under_processing(caller)
    if _fires(caller, command, "mifos_500_after_posting"):
        return spring(500, "Internal Server Error", caller.request.path)
    if _fires(caller, command, "mifos_timeout_after_posting"):
        await world.pause(world.settings.hang_ms)
        return Dropped()
    return None


def _fires(caller: Caller, command: Command, fault: str) -> bool:
    meets = command.action in _MET_BY_FAULTS
    return meets and caller.world.faults.fires(fault, caller.host.name, command.unit, command.action)


def _work(caller: Caller, command: Command, row: CommandRow) -> Answer:
    """Does the work, stores what a replay gives, raises the hook; returns what this caller gets."""
    guarded = command.permission in caller.host.maker_checker and SUPER not in caller.user.permissions
    if guarded or _fires(caller, command, "mifos_waits_for_checker"):
        return _wait_for_checker(caller, command, row)
    try:
        result = command.work()
    except RefusalError as refusal:
        row.answer = refusal.answer
        _tell(caller, command, None, refusal.answer)
        return refusal.answer
    except UnhandledError as error:
        row.answer = json_answer({"Exception": str(error)}, 500)
        _tell(caller, command, None, row.answer)
        return spring(500, "Internal Server Error", caller.request.path)
    row.answer = json_answer(result)
    _tell(caller, command, result, None)
    return row.answer


def _wait_for_checker(caller: Caller, command: Command, row: CommandRow) -> Answer:
    """200, and nothing happened: a checker must approve. The row stays open, so the key answers 425 until then."""
    host = caller.host
    number = host.next_id("command")
    host.pending[number] = PendingCommand(number, caller.user.name, command, row)
    _tell(caller, command, None, None)
    resource = {"resourceId": command.loan_id} if command.loan_id is not None else {}
    waiting = {"commandId": number, **resource, "rollbackTransaction": True}
    return json_answer({**waiting, "resourceExternalId": {}, "subResourceExternalId": {}})


def list_pending(host: MifosHost) -> Answer:
    """GET /makercheckers."""
    return json_answer(
        [
            {
                "id": waiting.id,
                "actionName": waiting.command.action,
                "entityName": waiting.command.entity,
                "resourceId": waiting.command.loan_id,
                "maker": waiting.maker,
                "loanId": waiting.command.loan_id,
                "url": f"/loans/{waiting.command.loan_id}",
            }
            for waiting in host.pending.values()
        ]
    )


def approve_pending(caller: Caller, number: int) -> Answer:
    """POST /makercheckers/{id}?command=approve: does the work; the maker's key is answered with this result from now on."""
    waiting: PendingCommand | None = caller.host.pending.pop(number, None)
    if waiting is None:
        text = f"Audit with identifier {number} does not exist"
        raise not_found(Fault(text, "error.msg.command.id.invalid", "id", (number,)))
    caller.world.note(caller.request)
    result = {"commandId": number, **waiting.command.work()}
    answer = waiting.row.answer = json_answer(result)
    waiting.row.done.set()
    _tell(caller, waiting.command, result, None)
    return answer


def _tell(caller: Caller, command: Command, result: dict[str, Any] | None, error: Answer | None) -> None:
    shown = orjson.loads(orjson.dumps(result)) if result is not None else None
    event = Event(command.action, command.entity, command.unit, command.body, shown, error)
    raise_event(caller.world, caller.host, caller.user, event, caller.endpoint)
