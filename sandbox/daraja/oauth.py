"""Access tokens. A doubt of the field is a setting here: whether a new token ends the one before it."""

import base64
import binascii
from datetime import timedelta
from typing import Any

from sandbox.asgi import Answer, BadBodyError, Request, json_answer
from sandbox.chance import letters
from sandbox.daraja.books import App
from sandbox.daraja.wire import error
from sandbox.world import World

_LIFETIME = timedelta(seconds=3599)


def generate_token(world: World, request: Request) -> Answer:
    """GET /oauth/v1/generate. `expires_in` is the string "3599", as the live service sends it."""
    books = world.mpesa
    if request.query.get("grant_type") != "client_credentials":
        return error(books, 400, "400.008.02", "Invalid grant type passed")
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return error(books, 400, "400.008.01", "Invalid Authentication passed")
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        key, secret = "", ""
    app = books.apps.get(key)
    if app is None or app.consumer_secret != secret:
        return Answer(400, b"")  # seen in the field: a wrong key or secret gets an empty 400
    world.note(request)
    if world.settings.new_token_kills_old:
        for token in [token for token, (owner, _) in books.tokens.items() if owner == key]:
            del books.tokens[token]
    token = letters(books.seed, 28, "token", key, books.token_number())
    books.tokens[token] = (key, world.clock.now() + _LIFETIME)
    return json_answer({"access_token": token, "expires_in": "3599"})


def app_of(world: World, request: Request) -> App | None:
    """The app whose live token the request carries."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    owner = world.mpesa.tokens.get(token)
    if scheme.lower() != "bearer" or owner is None or owner[1] <= world.clock.now():
        return None
    return world.mpesa.apps.get(owner[0])


def opened(world: World, request: Request, bad_token: tuple[int, str, str]) -> dict[str, Any] | Answer:
    """The body of a request that carries a live token, or its refusal. Each API spells a bad token in its own way."""
    if app_of(world, request) is None:
        return error(world.mpesa, *bad_token)
    try:
        return request.json_object()
    except BadBodyError:
        return error(world.mpesa, 400, "400.002.05", "Invalid Request Payload")


def kill_token(world: World, request: Request) -> None:
    """Ends the token the request carries."""
    world.mpesa.tokens.pop(request.headers.get("authorization", "").partition(" ")[2], None)
