"""Fills a world from JSON (POST /control/setup, or --world FILE). The README beside this file documents every key.

What is named is added to what is there already. Amounts are whole cents, days are ISO dates. Raises BadBodyError.
"""

from collections.abc import Collection
from typing import Any

from sandbox.airtouch.books import SmsUser
from sandbox.asgi import BadBodyError
from sandbox.daraja.books import App, Customer, ShortCode
from sandbox.daraja.fees import B2C_TARIFFS, BOUQUETS
from sandbox.mifos.host_file import add_host
from sandbox.settings import change_settings
from sandbox.world import World


def fill_world(world: World, wish: Any) -> None:
    """Adds everything `wish` names."""
    check_keys(wish, "the world", {"mpesa", "mifos", "sms", "faults", "settings"})
    moment = change_settings(world.settings, wish.get("settings", {}))
    if moment is not None:
        world.clock.move_to(moment)
    _add_mpesa(world, wish.get("mpesa", {}))
    for name, host in wish.get("mifos", {}).items():
        add_host(world, name, host)
    _add_sms(world, wish.get("sms", {}))
    world.faults.set(wish.get("faults", {}))


def check_keys(wish: Any, where: str, known: Collection[str], needed: Collection[str] = ()) -> None:
    """Refuses what is no object, has a key nobody knows, or lacks one that is needed."""
    if not isinstance(wish, dict):
        raise BadBodyError(f"{where} must be an object, got {wish!r}")
    unknown, missing = set(wish) - set(known) - set(needed), set(needed) - set(wish)
    if unknown:
        raise BadBodyError(f"{where}: no key {', '.join(sorted(unknown))}; there are: {', '.join(sorted({*known, *needed}))}")
    if missing:
        raise BadBodyError(f"{where}: {', '.join(sorted(missing))} missing")


def _add_mpesa(world: World, wish: Any) -> None:
    check_keys(wish, "mpesa", {"apps", "short_codes", "customers"})
    books = world.mpesa
    for app in wish.get("apps", ()):
        check_keys(app, "mpesa app", {"short_codes"}, {"consumer_key", "consumer_secret"})
        codes = frozenset(str(code) for code in app.get("short_codes", ()))
        books.apps[app["consumer_key"]] = App(app["consumer_key"], app["consumer_secret"], codes)
    keys = {"utility_cents", "working_cents", "initiator", "security_credential", "external_validation", "register_again"}
    keys |= {"b2c_tariff", "c2b_bouquet", "passkey"}
    for code, row in wish.get("short_codes", {}).items():
        check_keys(row, f"short code {code}", keys, {"name"})
        _check_one_of(row, code, "b2c_tariff", tuple(B2C_TARIFFS))
        _check_one_of(row, code, "c2b_bouquet", BOUQUETS)
        books.short_codes[str(code)] = ShortCode(code=str(code), **row)
    for customer in wish.get("customers", ()):
        check_keys(customer, "mpesa customer", {"registered", "result_code", "stk_result"}, {"phone", "name"})
        row = customer | {name: str(customer.get(name, "0")) for name in ("result_code", "stk_result")}
        books.customers[row["phone"]] = Customer(**row)


def _check_one_of(row: dict[str, Any], code: str, key: str, choices: tuple[str, ...]) -> None:
    if row.get(key, choices[0]) not in choices:
        raise BadBodyError(f"short code {code}: {key} is one of {', '.join(choices)}, got {row[key]!r}")


def _add_sms(world: World, wish: Any) -> None:
    check_keys(wish, "sms", {"users"})
    for row in wish.get("users", ()):
        check_keys(row, "sms user", {"price_cents", "balance_cents"}, {"user", "api_key", "senders"})
        world.sms.users[row["user"]] = SmsUser(**(row | {"senders": frozenset(row["senders"])}))
