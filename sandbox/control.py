"""The levers: set up, reset, customer payments, approvals, switches, settings. No stand-in needs a password here."""

import base64
from typing import Any

import orjson

from sandbox.asgi import Answer, BadBodyError, Request, json_answer
from sandbox.daraja.balance import move_float
from sandbox.daraja.c2b import customer_pays
from sandbox.daraja.statement import download
from sandbox.faults import FAULTS
from sandbox.mifos.errors import RefusalError
from sandbox.mifos.host import User
from sandbox.mifos.reads import loan_by_id
from sandbox.mifos.routes import answer_mifos
from sandbox.settings import change_settings
from sandbox.world import World
from sandbox.world_file import fill_world


async def answer_control(world: World, path: str, request: Request) -> Answer:
    """The answer to `path` below /control; what is wrong with a wish is a 400 that says what."""
    try:
        return await _answer(world, path, request)
    except BadBodyError as error:
        return json_answer({"error": str(error)}, 400)


async def _answer(world: World, path: str, request: Request) -> Answer:
    if request.method == "GET":
        return download(world, request) if path == "/statement" else _look(world, path)
    if path == "/setup":
        fill_world(world, request.json_object())
        world.note(request)
        return json_answer({})
    if path == "/faults":
        world.faults.set(request.json_object())
        world.note(request)
        return json_answer(_faults(world))
    if path == "/settings":
        moment = change_settings(world.settings, request.json_object())
        if moment is not None:
            world.clock.move_to(moment)
        world.note(request)
        return json_answer({})
    if path == "/float":
        return move_float(world, request)
    if path == "/c2b":
        return await _pay(world, request.json_object())
    if path == "/approve":
        return await _approve(world, request)
    return json_answer({"error": f"no {path} here"}, 404)


def _look(world: World, path: str) -> Answer:
    if path == "/faults":
        return json_answer(_faults(world))
    if path == "/quiet":
        return json_answer({"pending": world.deliveries.pending})
    return json_answer({"error": f"no {path} here"}, 404)


def _faults(world: World) -> dict[str, Any]:
    return {
        name: {
            "what": what,
            "fired": world.faults.fired[name],
            "switches": [switch.as_json() for switch in world.faults.switches.get(name, ())],
        }
        for name, what in FAULTS.items()
    }


async def _pay(world: World, wish: dict[str, Any]) -> Answer:
    """One payment, or {"payments": [...]} in their order."""
    if "payments" not in wish:
        return json_answer(await _pay_one(world, wish))
    return json_answer({"payments": [await _pay_one(world, each) for each in wish["payments"]]})


async def _pay_one(world: World, wish: Any) -> dict[str, Any]:
    return await customer_pays(world, wish, Request("POST", "/control/c2b", {}, {}, orjson.dumps(wish)))


async def _approve(world: World, request: Request) -> Answer:
    """Approves loans as the host's first user would, so that the hook fires: {"host", "loans": [ids]}."""
    wish = request.json_object()
    host = world.mifos.get(str(wish.get("host")))
    if host is None or not host.users:
        raise BadBodyError(f"no mifos host {wish.get('host')!r} with a user")
    user = next(iter(host.users.values()))
    today = host.today(world.clock.today()).isoformat()
    answers = {}
    for loan_id in wish.get("loans", ()):
        try:
            loan = loan_by_id(host, int(loan_id))
        except RefusalError as error:
            raise BadBodyError(f"host {host.name} has no loan {loan_id!r}") from error
        amount = loan.proposed_cents // 100 if loan.proposed_cents % 100 == 0 else f"{loan.proposed_cents / 100:.2f}"
        body = {
            "approvedOnDate": today,
            "approvedLoanAmount": amount,
            "expectedDisbursementDate": today,
            "locale": "en",
            "dateFormat": "yyyy-MM-dd",
        }
        inner = _as_user(request, user, f"/mifos/{host.name}/fineract-provider/api/v1/loans/{loan_id}", host.tenant, body)
        answer = await answer_mifos(world, host, f"/api/v1/loans/{loan_id}", inner)
        answers[str(loan_id)] = answer.status if isinstance(answer, Answer) else 0
    return json_answer({"statuses": answers})


def _as_user(request: Request, user: User, path: str, tenant: str, body: dict[str, Any]) -> Request:
    """The approval as `user` would send it."""
    headers = {
        "host": request.headers.get("host", ""),
        "authorization": f"Basic {base64.b64encode(f'{user.name}:{user.password}'.encode()).decode()}",
        "fineract-platform-tenantid": tenant,
        "content-type": "application/json",
    }
    return Request("POST", path, {"command": "approve"}, headers, orjson.dumps(body))
