"""What a benchmark makes of moments: percentiles, and how much waited at once."""

from collections.abc import Iterable, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `values` do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def most_waiting(spans: Iterable[tuple[float, float]]) -> int:
    """The most of `spans` (came, went) that were there at once: how far who works them off was behind at worst."""
    turns = sorted(turn for came, went in spans for turn in ((came, 1), (went, -1)))
    waiting = most = 0
    for _, change in turns:
        waiting += change
        most = max(most, waiting)
    return most
