"""Axes: where ticks go, how figures are written, where a value lies; knows no markup."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scale", "duration", "figure", "padded", "ticks"]

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    """The pixel of `low`."""
    end: float
    """The pixel of `high`."""

    def __call__(self, value: float) -> float:
        """Return the value's pixel, to a tenth."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def padded(values: Sequence[float], *, floor: float | None = None) -> tuple[float, float]:
    """Return the ends of an axis that shows all values; `floor` is a value that it must begin at or below."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if floor is not None:
        low = min(low, floor)
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-300):
        room = abs(high) / 2 or 1.0
        return (low if floor == low else low - room, high + room)
    room = 0.06 * (high - low)
    return (low if floor == low else low - room, high + room)


def ticks(low: float, high: float, wanted: int = 4, *, whole: bool = False) -> list[float]:
    """Return about `wanted` round values from `low` to `high`; only whole numbers if `whole`."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def figure(value: float) -> str:
    """Return a figure as people write it: at most four significant digits, thousands as k, M, G."""
    if not math.isfinite(value):
        return "n/a"
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return _signed(f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}")
    if size == 0:
        return "0"
    if size < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return _signed(f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}")
    return _signed(f"{value:.4g}")


def duration(seconds: float) -> str:
    """Return a time span: 0.42 s, 8.3 s, 3 min 05 s, 2 h 14 min."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _signed(written: str) -> str:
    return written.replace("-", _MINUS)
