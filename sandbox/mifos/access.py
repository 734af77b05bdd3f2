"""Who may in: the tenant first, then the password, then the permission to read."""

import base64
import binascii
from typing import Any

from sandbox.asgi import Answer, BadBodyError, Request, json_answer
from sandbox.mifos.errors import not_authenticated, not_authorized, spring
from sandbox.mifos.host import MifosHost, User


def check_tenant(host: MifosHost, request: Request) -> Answer | None:
    """400 with the framework's body when the tenant is missing or unknown."""
    tenant = request.headers.get("fineract-platform-tenantid") or request.query.get("tenantIdentifier")
    if host.legacy and tenant is None:
        tenant = request.headers.get("x-mifos-platform-tenantid")
    return None if tenant == host.tenant else spring(400, "Bad Request", request.path, challenge=True)


def user_of(host: MifosHost, request: Request) -> User | Answer:
    """The user of the Basic header, or the 401."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, password = "", ""
    user = host.users.get(name)
    if scheme.lower() != "basic" or user is None or user.password != password:
        return spring(401, "Unauthorized", request.path, challenge=True)
    return user


def authenticate(host: MifosHost, request: Request) -> Answer:
    """POST /authentication (old servers take the query string too)."""
    try:
        body: dict[str, Any] = request.json_object() if request.body else {}
    except BadBodyError:
        return spring(400, "Bad Request", request.path)
    name = str(body.get("username") or request.query.get("username", ""))
    password = str(body.get("password") or request.query.get("password", ""))
    user = host.users.get(name)
    if user is None or user.password != password:
        return not_authenticated()
    role = {"id": 1, "name": "Super user", "description": "This role provides all application permissions.", "disabled": False}
    return json_answer(
        {
            "username": name,
            "userId": user.id,
            "base64EncodedAuthenticationKey": base64.b64encode(f"{name}:{password}".encode()).decode(),
            "authenticated": True,
            "officeId": 1,
            "officeName": "Head Office",
            "roles": [role],
            "permissions": sorted(user.permissions),
            "shouldRenewPassword": False,
            "isTwoFactorAuthenticationRequired": False,
        }
    )


def check_read(user: User, resource: str) -> None:
    """Raises the 403 of a read: READ_LOAN is asked for as "loan"."""
    if not user.may(f"READ_{resource.upper()}"):
        raise not_authorized(f"User has no authority to READ {resource}s")


def check_write(user: User, permission: str) -> None:
    """Raises the 403 of a write that is no command of loans or savings."""
    if not user.may(permission):
        raise not_authorized(f"User has no authority to: {permission}")
