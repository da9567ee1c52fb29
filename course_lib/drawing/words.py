"""Numbers as a reader takes them in."""

import math


def percent(probability: float) -> str:
    """0.2383 → "23.8%"."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{100 * probability:.1f}%"


def from_to(before: str, now: str) -> str:
    """Two values of the same thing: "23.8% → 5.8%", or the one where nothing has changed."""
    return now if now == before else f"{before} → {now}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 0.00123 → "1.23 ms"."""
    for unit, scale in (("s", 1), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def size_in_words(number: int) -> str:
    """Bytes in the unit that fits: 11520 → "11.5 kB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} bytes" if number != 1 else "1 byte"


def power(value: float) -> str:
    """A number by its order: "1e-51", and small whole orders as they are: "0.3", "12"."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞"
    if 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    if 1000 <= value < 1e5:
        return f"{float(f'{value:.0e}'):,.0f}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
