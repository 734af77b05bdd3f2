"""Which proxy a request goes through, as HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say. This machine itself needs none."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import yarl

from vault_core.errors import ConfigurationError

_OWN_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_KINDS = ("http", "https")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and the headers by which we log in at it. To an https address it is a tunnel."""

    url: yarl.URL
    headers: Mapping[str, str] = field(repr=False)


class Proxies:
    """The proxies of one process. `told` is what the environment says, as urllib reads it."""

    def __init__(self, told: Mapping[str, str]) -> None:
        """Raises ConfigurationError for a proxy that is not one of http or https: SOCKS is not spoken here."""
        self._told = dict(told)
        named = {kind: told.get(kind) or told.get("all") for kind in _KINDS}
        self._of = {kind: _read(kind, address) for kind, address in named.items() if address}
        self._known: dict[tuple[str, str | None, int | None], Proxy | None] = {}

    @classmethod
    def of_environment(cls) -> "Proxies":
        """Those that the variables of this process name."""
        return cls(urllib.request.getproxies_environment())

    def to(self, url: yarl.URL) -> Proxy | None:
        """The proxy to `url`; None: it is reached directly."""
        if not self._of:
            return None
        place = (url.scheme, url.host, url.port)
        if place not in self._known:
            self._known[place] = None if self._is_direct(url) else self._of.get(url.scheme)
        return self._known[place]

    def _is_direct(self, url: yarl.URL) -> bool:
        bypassed = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # not in the types
        direct = bypassed(f"{url.host}:{url.port}", self._told)
        return url.host is None or url.host in _OWN_MACHINE or bool(direct)


def _read(kind: str, address: str) -> Proxy:
    try:
        url = yarl.URL(address if "://" in address else f"http://{address}")
    except ValueError:
        url = yarl.URL()
    if url.scheme not in _KINDS or url.host is None:
        raise ConfigurationError(
            f"{kind.upper()}_PROXY (or ALL_PROXY) names a proxy that cannot be used: an address like http://HOST:PORT is expected"
        )
    login = {"Proxy-Authorization": aiohttp.encode_basic_auth(url.user, url.password or "")} if url.user is not None else {}
    return Proxy(url.with_user(None), login)
