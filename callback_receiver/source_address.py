"""Who sent a request, when proxies may stand in between."""

from collections.abc import Iterable
from ipaddress import ip_address

from callback_receiver.receiver_settings import Network


def source_address(peer: str, forwarded_for: str, trusted: Iterable[Network]) -> str:
    """The sender's address: the peer itself, or, where the peer is a trusted proxy, the nearest address no trusted proxy has.

    X-Forwarded-For is written by whoever likes to, so it is believed from the right and only as far as the proxies are ours.
    """
    networks = tuple(trusted)
    if not networks or not forwarded_for or not _is_in(peer, networks):
        return peer
    source = peer
    for hop in reversed([part.strip() for part in forwarded_for.split(",")]):
        if not _is_address(hop):
            break
        source = hop
        if not _is_in(hop, networks):
            break
    return source


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)
