"""Convert and print quantities; the only place where units change.

GiB is 2^30 bytes and GB is 10^9 bytes, always. Internal units are bytes, seconds, FLOP.
"""

KIB = 2**10
MIB = 2**20
GIB = 2**30
GB = 10**9
TFLOP = 10**12
BITS_PER_BYTE = 8
SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86_400


def gib(size_bytes: float) -> float:
    """Return bytes as GiB."""
    return size_bytes / GIB


def bytes_per_s_from_gbit_per_s(rate_gbit_per_s: float) -> float:
    """Return a network rate in bytes a second from gigabits (10^9) a second."""
    return rate_gbit_per_s * 1e9 / BITS_PER_BYTE


def text_of_bytes(size_bytes: float) -> str:
    """Return bytes as people read memory: `69.2 GiB`, `512 MiB`."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size_bytes) >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes:.0f} B"


def text_of_count(count: float) -> str:
    """Return a count as people read parameters and tokens: `405.9 B`, `15.6 T`, `1,536`."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(count) >= unit:
            return f"{count / unit:,.4g} {name}"
    return f"{count:,.0f}"


def text_of_seconds(duration_s: float) -> str:
    """Return a duration with the unit a person would choose: `850 ms`, `6.2 s`, `3 h 5 min`."""
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 2 * SECONDS_PER_MINUTE:
        return f"{duration_s:.3g} s"
    if duration_s < SECONDS_PER_HOUR:
        minutes, rest_s = divmod(duration_s, SECONDS_PER_MINUTE)
        return f"{int(minutes)} min {int(rest_s)} s"
    if duration_s < 2 * SECONDS_PER_DAY:
        hours, rest_s = divmod(duration_s, SECONDS_PER_HOUR)
        return f"{int(hours)} h {int(rest_s // SECONDS_PER_MINUTE)} min"
    return f"{duration_s / SECONDS_PER_DAY:.1f} days"
