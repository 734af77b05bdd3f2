"""Which path of Daraja is answered by whom."""

from collections.abc import Awaitable, Callable

from sandbox.asgi import Answer, Dropped, Request
from sandbox.daraja import b2c, balance, c2b, oauth, pull, reversal, status, stk
from sandbox.daraja.wire import error
from sandbox.world import World

_POSTS: dict[str, tuple[str, Callable[[World, Request], Awaitable[Answer | Dropped]]]] = {
    "/mpesa/b2c/v3/paymentrequest": ("mpesa b2c", b2c.pay),
    "/mpesa/transactionstatus/v1/query": ("mpesa status", status.ask),
    "/mpesa/accountbalance/v1/query": ("mpesa balance", balance.ask),
    "/mpesa/reversal/v1/request": ("mpesa reversal", reversal.reverse),
    "/pulltransactions/v1/register": ("mpesa pull register", pull.register),
    "/pulltransactions/v1/query": ("mpesa pull", pull.query),
    "/mpesa/c2b/v2/registerurl": ("mpesa c2b register", c2b.register_urls),
    "/mpesa/stkpush/v1/processrequest": ("mpesa stk push", stk.prompt),
    "/mpesa/stkpushquery/v1/query": ("mpesa stk query", stk.ask),
}


async def answer_daraja(world: World, path: str, request: Request) -> Answer | Dropped:
    """The answer to `path` below the Daraja base URL."""
    if path == "/oauth/v1/generate" and request.method == "GET":
        world.calls["mpesa oauth"] += 1
        return oauth.generate_token(world, request)
    if path not in _POSTS:
        return error(world.mpesa, 404, "404.001.01", "Resource not found")
    if request.method != "POST":
        return error(world.mpesa, 405, "405.001", "Method Not Allowed")
    name, answer = _POSTS[path]
    world.calls[name] += 1
    return await answer(world, request)
