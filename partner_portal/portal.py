"""The portal as an ASGI application: who calls, may he, and what became of it. Built by partner_portal/app.py."""

import time
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from partner_portal import collections, disbursements, wallet
from partner_portal.metrics import Metrics
from partner_portal.openapi import make_document
from partner_portal.operations import Call, Operation
from partner_portal.portal_settings import PortalSettings
from partner_portal.problems import Problem, answer, problem_of, unavailable
from vault_core.errors import VaultError
from vault_core.partners.api_tokens import Caller, admit
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

OPERATIONS = (*collections.OPERATIONS, *wallet.OPERATIONS, *disbursements.OPERATIONS)

_AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)
_BEARER = "bearer"
_ELSEWHERE = {404: "not-found", 405: "method-not-allowed"}
Endpoint = Callable[[Request], Awaitable[Response]]


def build_portal(runtime: Runtime, connections: Connections, settings: PortalSettings, metrics: Metrics) -> Starlette:
    """The application on `runtime`. It owns nothing: whoever built its arguments closes them."""

    async def document(_request: Request) -> Response:
        return JSONResponse(make_document(OPERATIONS))

    async def alive(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(_request: Request) -> Response:
        try:
            async with runtime.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError):
            return JSONResponse({"ready": False, "cause": "PostgreSQL does not answer"}, 503)
        return JSONResponse({"ready": True})

    async def counters(_request: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def endpoint(operation: Operation) -> Endpoint:
        async def answer_it(request: Request) -> Response:
            began = time.perf_counter()
            response = await _answer(operation, request, runtime, connections, settings)
            metrics.seconds.labels(operation.name).observe(time.perf_counter() - began)
            metrics.answers.labels(operation.name, str(response.status_code)).inc()
            response.headers["Cache-Control"] = "no-store"
            return response

        return answer_it

    return Starlette(
        routes=[
            *(Route(one.path, endpoint(one), methods=[one.method], name=one.name) for one in OPERATIONS),
            Route("/openapi.json", document),
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", counters),
        ],
        exception_handlers={HTTPException: _elsewhere},
    )


async def _answer(
    operation: Operation, request: Request, runtime: Runtime, connections: Connections, settings: PortalSettings
) -> Response:
    """The operation's answer, or the problem in its place. No error leaves it."""
    try:
        caller = await _admitted(operation, request, runtime)
        return await operation.handler(Call(runtime, connections, settings, caller, request))
    except Problem as problem:
        return answer(problem)
    except VaultError as error:
        failure = problem_of(error)
        if failure.status >= 500:  # noqa: PLR2004 - ours
            log.warning("request failed", operation=operation.name, kind=type(error).__name__, cause=str(error))
        return answer(failure)
    except _AWAY as error:
        log.warning("request failed", operation=operation.name, kind=type(error).__name__)
        return answer(unavailable())
    except Exception as error:  # noqa: BLE001 - the edge of a request: its kind is logged, its text may quote the caller
        log.error("request failed", operation=operation.name, kind=type(error).__name__)  # noqa: TRY400
        return answer(Problem(500, "internal", "the request failed inside Payment Vault and was recorded"))


async def _admitted(operation: Operation, request: Request, runtime: Runtime) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    caller = await admit(runtime, token.strip()) if scheme.lower() == _BEARER else None
    if caller is None:
        what = "send `Authorization: Bearer TOKEN` with a live token"
        raise Problem(401, "unauthorized", what, headers={"WWW-Authenticate": "Bearer"})
    if caller.retry_after is not None:
        headers = {"Retry-After": str(caller.retry_after)}
        raise Problem(
            429, "too-many-requests", f"this minute's requests are used up: wait {caller.retry_after} s", headers=headers
        )
    if operation.scope not in caller.scopes:
        headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{operation.scope}"'}
        raise Problem(403, "insufficient-scope", f"the token lacks the scope {operation.scope}", headers=headers)
    return caller


async def _elsewhere(_request: Request, error: Exception) -> Response:
    """What is no operation: an unknown path, a wrong method."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    problem = Problem(status, _ELSEWHERE.get(status, "internal"), "see /openapi.json for what there is", headers=headers or {})
    return answer(problem)
