"""What an operation of the API is: one value that the routes and the OpenAPI document are both made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from partner_portal.portal_settings import PortalSettings
from vault_core.partners.api_tokens import Caller, Scope
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Call:
    """One admitted request, and what it may be answered with."""

    runtime: Runtime
    connections: Connections
    settings: PortalSettings
    caller: Caller
    request: Request


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter. `place` is 'path', 'query' or 'header'."""

    name: str
    place: str
    what: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `answers`: what each good status means and the schema of its body."""

    method: str
    path: str
    name: str
    summary: str
    what: str
    scope: Scope
    handler: Handler
    answers: Mapping[int, tuple[str, str]]
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    problems: tuple[int, ...] = field(default=())  # beside those that every operation may answer
