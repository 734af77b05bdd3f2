"""Which path of a Mifos X host is answered by whom."""

import re
from dataclasses import replace
from typing import Any

from sandbox.asgi import Answer, BadBodyError, Dropped, Request, json_answer
from sandbox.mifos import finding, hooks, reads, savings
from sandbox.mifos.access import authenticate, check_read, check_tenant, check_write, user_of
from sandbox.mifos.account_lists import LIST_ROUTES
from sandbox.mifos.calendar import CALENDAR_ROUTES
from sandbox.mifos.commands import Caller, Command, Groups, Handler, approve_pending, body_of, list_pending, run_command
from sandbox.mifos.errors import RefusalError, bad_json, spring
from sandbox.mifos.host import MifosHost
from sandbox.mifos.loan_charges import LOAN_CHARGE_ROUTES
from sandbox.mifos.loan_routes import LOAN_ROUTES
from sandbox.mifos.opening import OPENING_ROUTES
from sandbox.mifos.partial import SAVINGS_FIELDS, partial
from sandbox.pages import no_backend_page, welcome_page
from sandbox.world import World


async def answer_mifos(world: World, host: MifosHost, path: str, request: Request) -> Answer | Dropped:
    """The answer to `path` below /fineract-provider of `host`."""
    if (down := _down(host, request)) is not None:
        return down
    if path == "/actuator/info":
        return reads.server_info(host)
    refused = check_tenant(host, request)
    if refused is not None:
        return refused
    if path == "/api/v1/authentication" and request.method == "POST":
        world.calls["mifos authentication"] += 1
        return authenticate(host, request)
    user = user_of(host, request)
    if isinstance(user, Answer):
        return user
    try:
        answer = await _route(Caller(world, host, user, request), path)
    except RefusalError as refusal:
        answer = refusal.answer
    except BadBodyError as error:
        answer = bad_json(str(error)).answer
    if isinstance(answer, Answer):
        return replace(answer, headers={"X-Notification-Refresh": "false", **answer.headers})
    return answer


def _down(host: MifosHost, request: Request) -> Answer | None:
    """What stands in the server's place, if anything does."""
    if host.away:
        return no_backend_page()
    if host.broken:
        return spring(500, "Internal Server Error", request.path)
    return welcome_page() if host.html else None


async def _route(caller: Caller, path: str) -> Answer | Dropped:
    request = caller.request
    if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
        return spring(415, "Unsupported Media Type", request.path)
    if (caller.host.legacy and "/external-id/" in path) or (caller.host.oldest and "/businessdate" in path):
        return spring(404, "Not Found", request.path)
    known = False
    for method, pattern, name, handler in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        known = True
        if method == request.method:
            caller.world.calls[f"mifos {name}"] += 1
            return await handler(caller, match.groups())
    return spring(405, "Method Not Allowed", request.path) if known else spring(404, "Not Found", request.path)


async def _get_savings(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "savingsaccount")
    account = reads.savings_by_id(caller.host, int(at[0]))
    wanted = caller.request.query.get("associations", "")
    view = savings.savings_view(account, transactions="transactions" in wanted or "all" in wanted)
    return json_answer(partial(view, caller.request, SAVINGS_FIELDS))


async def _search_savings(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "savingsaccount")
    account = reads.savings_by_id(caller.host, int(at[0]))
    return reads.savings_history(savings.savings_view(account, transactions=True), caller.request)


async def _command_savings(caller: Caller, at: Groups) -> Answer | Dropped:
    number, which = at
    name = caller.request.query.get("command")
    if which and name != "undo":
        raise reads.unsupported_command(name)
    if not which and name != "deposit":
        raise reads.unsupported_command(name, ("deposit", "withdrawal", "holdAmount"))
    body = body_of(caller)
    today = caller.host.today(caller.world.clock.today())

    def work() -> dict[str, Any]:
        if not which:
            savings.refuse_unknown_keys(caller.host, body)
        account = reads.savings_by_id(caller.host, int(number))
        if which:
            return savings.undo(account, int(which))
        return savings.deposit(caller.host, account, caller.user, body, today)

    action = "UNDOTRANSACTION" if which else "DEPOSIT"
    return await run_command(caller, Command(action, "SAVINGSACCOUNT", f"savings:{number}", body, work))


async def _products(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "loanproduct")
    return reads.loan_products(caller.host)


async def _payment_types(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "paymenttype")
    return reads.payment_types(caller.host)


async def _create_payment_type(caller: Caller, _: Groups) -> Answer:
    check_write(caller.user, "CREATE_PAYMENTTYPE")
    caller.world.note(caller.request)
    return reads.create_payment_type(caller.host, caller.request)


async def _clients(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "client")
    return reads.client_page(caller.host, caller.request)


async def _client(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "client")
    return json_answer(reads.client_view(reads.client_by_id(caller.host, int(at[0]))))


async def _client_accounts(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "client")
    return finding.client_accounts(reads.client_by_id(caller.host, int(at[0])), caller.host)


async def _search_clients(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "client")
    return finding.search_clients_v2(caller.host, caller.request)


async def _search(caller: Caller, _: Groups) -> Answer:
    return finding.search(caller.host, caller.request)


async def _hooks(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "hook")
    return hooks.list_hooks(caller.host)


async def _create_hook(caller: Caller, _: Groups) -> Answer:
    check_write(caller.user, "CREATE_HOOK")
    return await hooks.create_hook(caller.world, caller.host, caller.request)


async def _change_hook(caller: Caller, at: Groups) -> Answer:
    check_write(caller.user, "UPDATE_HOOK")
    return hooks.change_hook(caller.world, caller.host, int(at[0]), caller.request)


async def _delete_hook(caller: Caller, at: Groups) -> Answer:
    check_write(caller.user, "DELETE_HOOK")
    return hooks.delete_hook(caller.world, caller.host, int(at[0]), caller.request)


async def _business_date(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "business_date")
    return reads.business_date(caller.host, at[0])


async def _set_business_date(caller: Caller, _: Groups) -> Answer:
    check_write(caller.user, "UPDATE_BUSINESS_DATE")
    caller.world.note(caller.request)
    return reads.set_business_date(caller.host, caller.request)


async def _pending(caller: Caller, _: Groups) -> Answer:
    return list_pending(caller.host)


async def _approve_pending(caller: Caller, at: Groups) -> Answer:
    check_write(caller.user, "CHECKER_SUPER_USER")
    return approve_pending(caller, int(at[0]))


_ROUTES: tuple[tuple[str, re.Pattern[str], str, Handler], ...] = (
    *LOAN_ROUTES,
    *LOAN_CHARGE_ROUTES,
    *OPENING_ROUTES,
    *LIST_ROUTES,
    *CALENDAR_ROUTES,
    ("GET", re.compile(r"/api/v1/clients/(\d+)"), "client", _client),
    ("GET", re.compile(r"/api/v1/savingsaccounts/(\d+)"), "savings", _get_savings),
    ("POST", re.compile(r"/api/v1/savingsaccounts/(\d+)/transactions(?:/(\d+))?"), "deposit", _command_savings),
    ("GET", re.compile(r"/api/v1/savingsaccounts/(\d+)/transactions/search"), "savings history", _search_savings),
    ("GET", re.compile(r"/api/v1/search"), "search", _search),
    ("GET", re.compile(r"/api/v1/loanproducts"), "products", _products),
    ("GET", re.compile(r"/api/v1/paymenttypes"), "payment types", _payment_types),
    ("POST", re.compile(r"/api/v1/paymenttypes"), "create payment type", _create_payment_type),
    ("GET", re.compile(r"/api/v1/clients"), "clients", _clients),
    ("GET", re.compile(r"/api/v1/clients/(\d+)/accounts"), "client accounts", _client_accounts),
    ("POST", re.compile(r"/api/v2/clients/search"), "client search", _search_clients),
    ("GET", re.compile(r"/api/v1/hooks"), "hooks", _hooks),
    ("POST", re.compile(r"/api/v1/hooks"), "create hook", _create_hook),
    ("PUT", re.compile(r"/api/v1/hooks/(\d+)"), "change hook", _change_hook),
    ("DELETE", re.compile(r"/api/v1/hooks/(\d+)"), "delete hook", _delete_hook),
    ("GET", re.compile(r"/api/v1/makercheckers"), "makercheckers", _pending),
    ("POST", re.compile(r"/api/v1/makercheckers/(\d+)"), "approve pending", _approve_pending),
    ("GET", re.compile(r"/api/v1/businessdate(?:/([A-Z_]+))?"), "business date", _business_date),
    ("POST", re.compile(r"/api/v1/businessdate"), "set business date", _set_business_date),
)
