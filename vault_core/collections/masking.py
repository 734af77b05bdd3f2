"""What a payer typed, as it may be shown."""

_KEPT_SHORT = 4


def mask_reference(typed: str) -> str:
    """A bill reference as it may stand in a case: enough to recognise it, too little to be a phone or a name."""
    kept = " ".join(typed.split())
    return f"{kept[:1]}***{kept[-2:]}" if len(kept) > _KEPT_SHORT else "***"
