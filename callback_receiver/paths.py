"""What a request path says: whose delivery it is, and our own reference to what it is about."""

import re
from dataclasses import dataclass

# /i/<token>[/<reference>][/] and nothing else. Mifos X posts to a base URL and keeps its final slash (reference/fineract.md 7).
# Tokens are the 40 lower-case hex digits of Sealer.callback_token: anything else cannot be one, so it never costs a look-up.
_CALLBACK = re.compile(r"/i/([0-9a-f]{40})(?:/([0-9A-Za-z_-]{1,64}))?/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CallbackPath:
    """The secret token of a callback path (keep it out of logs) and the reference after it."""

    token: str
    reference: str | None

    def __repr__(self) -> str:
        return f"CallbackPath(token=..., reference={self.reference!r})"


def parse_callback_path(path: str) -> CallbackPath | None:
    """The callback path in `path` (decoded, without the query string); None if it is not one, whatever the reason."""
    match = _CALLBACK.fullmatch(path)
    return None if match is None else CallbackPath(match[1], match[2])
