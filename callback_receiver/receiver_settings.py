"""What the receiver alone can set, beside vault_core/settings.py."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network

from vault_core.errors import ConfigurationError

Network = IPv4Network | IPv6Network
_LARGEST_BODY = 512 * 1024  # grows by a third in base64; brokers take 1 MiB


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """Bounds of the receiver. Each is the variable VAULT_RECEIVER_<NAME>; seconds unless said."""

    body_cap: int = 64 * 1024  # bytes; M-Pesa's and Mifos X's bodies are below 4 KiB
    batch_most: int = 48  # deliveries in one commit; small enough that one batch is made while another is flushed
    batch_linger: float = 0.002  # how long a commit waits for company while others are under way
    writers: int = 3  # commits under way at once
    waiting_most: int = 10_000  # deliveries waiting for a commit; beyond it the answer is 503
    commit_within: float = 4.0  # then the answer is 503; M-Pesa waits about 8 s (reference/daraja.md section 4.2)
    tokens_every: float = 3.0  # how often the callback tokens and the partners' validation settings are read again
    validation_within: float = 0.6  # then a question of M-Pesa gets the answer that the partner set for what is not known
    validators: int = 2  # transactions that answer such questions, at once
    publish_queue: int = 20_000  # messages waiting for Kafka; beyond it they are left to the sweep
    trusted_proxies: tuple[Network, ...] = ()  # VAULT_TRUSTED_PROXIES: whose X-Forwarded-For is believed


def read_receiver_settings(environment: Mapping[str, str]) -> ReceiverSettings:
    """The settings in `environment`. Raises ConfigurationError naming the variable that is wrong."""
    chosen: dict[str, int | float] = {}
    for setting in fields(ReceiverSettings):
        name = f"VAULT_RECEIVER_{setting.name.upper()}"
        if setting.type not in {int, float} or name not in environment:
            continue
        try:
            number = setting.type(environment[name])
        except ValueError as error:
            raise ConfigurationError(f"{name}={environment[name]!r} is not a number") from error
        if number <= 0:
            raise ConfigurationError(f"{name}={environment[name]!r} must be above zero")
        if setting.name == "body_cap" and number > _LARGEST_BODY:
            raise ConfigurationError(f"{name}={environment[name]!r} is above {_LARGEST_BODY}, the most that fits a Kafka message")
        chosen[setting.name] = number
    return ReceiverSettings(trusted_proxies=_networks(environment), **chosen)  # type: ignore[arg-type]


def _networks(environment: Mapping[str, str]) -> tuple[Network, ...]:
    text = environment.get("VAULT_TRUSTED_PROXIES", "")
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigurationError(f"VAULT_TRUSTED_PROXIES={text!r}: expected addresses or networks, comma-separated") from error
