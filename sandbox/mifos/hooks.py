"""Web hooks: created with a GET ping, then posted once per command, failed ones too. Not signed, never repeated."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from sandbox.asgi import Answer, Request, json_answer
from sandbox.deliveries import Delivery
from sandbox.mifos.errors import Fault, RefusalError, not_found, spring, validation
from sandbox.mifos.host import Hook, MifosHost, User
from sandbox.mifos.shapes import date_array
from sandbox.world import World


@dataclass(frozen=True, slots=True)
class Event:
    """A command that ran. `result` is None when it failed or waits for a checker. `unit` names what it was about."""

    action: str
    entity: str
    unit: str
    body: dict[str, Any]
    result: dict[str, Any] | None
    error: Answer | None = None


async def create_hook(world: World, host: MifosHost, request: Request) -> Answer:
    """POST /hooks. A URL without a final slash ends in a 500, a dead one in a 400; any answer to the ping will do."""
    body = request.json_object()
    config = body.get("config") or {}
    url = str(config.get("Payload URL", ""))
    address = url.split("?", 1)[0]
    if not address.endswith("/"):
        return spring(500, "Internal Server Error", request.path)
    if not await world.deliveries.ping(address):
        text = "Failed data validation due to: url.invalid."
        raise validation(Fault(text, "validation.msg.hook.url.invalid", None, ({}, [])))
    events = tuple((str(event["entityName"]), str(event["actionName"])) for event in body.get("events", ()))
    world.note(request)
    hook_id = host.next_id("hook")
    kind, name = str(config.get("Content Type", "json")), str(body.get("displayName", ""))
    active = bool(body.get("isActive", True))
    host.hooks[hook_id] = Hook(hook_id, name, url, kind, events, world.clock.today(), active)
    return json_answer({"resourceId": hook_id})


def list_hooks(host: MifosHost) -> Answer:
    """GET /hooks."""
    return json_answer([_view(hook) for hook in host.hooks.values()])


def change_hook(world: World, host: MifosHost, hook_id: int, request: Request) -> Answer:
    """PUT /hooks/{id}: what is named is replaced; nothing is called."""
    if hook_id not in host.hooks:
        raise _missing(hook_id)
    body, hook = request.json_object(), host.hooks[hook_id]
    world.note(request)
    config = body.get("config") or {}
    hook.url, hook.active = str(config.get("Payload URL", hook.url)), bool(body.get("isActive", hook.active))
    if "events" in body:
        hook.events = tuple((str(event["entityName"]), str(event["actionName"])) for event in body["events"])
    return json_answer({"resourceId": hook_id, "changes": {}})


def delete_hook(world: World, host: MifosHost, hook_id: int, request: Request) -> Answer:
    """DELETE /hooks/{id}."""
    if hook_id not in host.hooks:
        raise _missing(hook_id)
    world.note(request)
    del host.hooks[hook_id]
    return json_answer({"resourceId": hook_id})


def raise_event(world: World, host: MifosHost, user: User, event: Event, endpoint: str) -> None:
    """Posts `event` to every active hook that asked for it. The oldest servers told nothing of a command that failed."""
    if host.oldest and event.result is None:
        return
    for hook in host.hooks.values():
        if not hook.active or (event.entity, event.action) not in hook.events:
            continue
        told_of_approval = event.action == "APPROVE" and event.result is not None
        if told_of_approval and world.faults.fires("hook_missing", host.name, event.unit, str(hook.id)):
            continue
        address = hook.url.split("?", 1)[0]  # the query string is dropped
        body = orjson.dumps(_body(world, host, user, event))
        world.deliveries.post_later(Delivery(address, body, _headers(host, event, endpoint), "mifos hook"), 0)


def _headers(host: MifosHost, event: Event, endpoint: str) -> dict[str, str]:
    prefix = "X-Mifos" if host.legacy else "X-Fineract"
    tenant = "X-Mifos-Platform-TenantId" if host.legacy else "Fineract-Platform-TenantId"
    return {
        f"{prefix}-Entity": event.entity,
        f"{prefix}-Action": event.action,
        tenant: host.tenant,
        f"{prefix}-Endpoint": endpoint,
        "Content-Type": "application/json; charset=UTF-8",
        "User-Agent": "okhttp/4.12.0",
    }


def _body(world: World, host: MifosHost, user: User, event: Event) -> dict[str, Any]:
    result = event.result
    if host.oldest and result is not None:
        return result  # as it was answered: what happened stands in the headers alone
    body: dict[str, Any] = {"createdByName": user.name, "request": _as_floats(event.body)}
    if result is not None:
        for name in ("clientId", "groupId", "officeId"):
            if name in result:
                body[name] = result[name]
        body["response"] = {name: value for name, value in result.items() if name != "officeId"}
    elif host.legacy and event.error is not None:
        body["status"] = "Exception"
        body["response"] = orjson.loads(event.error.body) | {"errorCode": 9999, "statusCode": event.error.status}
    body |= {
        "createdBy": user.id,
        "entityName": event.entity,
        "createdByFullName": user.full_name,
        "actionName": event.action,
        "timestamp": world.clock.now().isoformat().replace("+00:00", "Z"),
    }
    return body


def _as_floats(value: Any) -> Any:
    """The request passes through a generic map on the real server: every number becomes a float (26.0)."""
    if isinstance(value, dict):
        return {name: _as_floats(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_floats(each) for each in value]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return float(value)
    return value


def _view(hook: Hook) -> dict[str, Any]:
    day = date_array(hook.created_on)
    return {
        "id": hook.id,
        "name": "Web",
        "displayName": hook.display_name,
        "isActive": hook.active,
        "createdAt": day,
        "updatedAt": day,
        "templateId": 0,
        "events": [{"actionName": action, "entityName": entity} for entity, action in hook.events],
        "config": [
            {"fieldName": "Content Type", "fieldValue": hook.content_type},
            {"fieldName": "Payload URL", "fieldValue": hook.url},
        ],
    }


def _missing(hook_id: int) -> RefusalError:
    text = f"Hook with identifier `{hook_id}` does not exist"
    return not_found(Fault(text, "error.msg.hook.identifier.not.found", "id", (hook_id,)))
