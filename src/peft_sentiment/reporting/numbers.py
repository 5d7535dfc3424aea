"""Numbers as people read them, the same in terminal, page and card."""


def as_count(number: int) -> str:
    """Return a whole number with thousands set apart."""
    return f"{number:,}"


def as_percent(share: float) -> str:
    """Return a share such as 88.2 %."""
    return f"{as_points(share)} %"


def as_points(share: float) -> str:
    """Return a share in hundredths, such as 88.2."""
    return f"{100 * share:.1f}"


def as_signed_points(difference: float) -> str:
    """Return a difference of shares in hundredths, such as +3.4."""
    return f"{100 * difference:+.1f}"


def as_rate(number: float) -> str:
    """Return how many a second, as exactly as it is known."""
    return f"{number:.1f}" if number < 100 else f"{number:,.0f}"


def as_p_value(number: float) -> str:
    """Return a p-value such as p = 0.034."""
    return "p < 0.0001" if number < 0.0001 else f"p = {number:.3g}"


def as_duration(seconds: float) -> str:
    """Return a time such as 2 min 18 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def as_rough_duration(seconds: float) -> str:
    """Return a time that is only guessed, such as 2 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def as_bytes(number: int) -> str:
    """Return a size such as 66 kB, 1.2 MB or 1.30 GB."""
    if number < 1e5:
        return f"{number / 1e3:.0f} kB"
    return f"{number / 1e6:.1f} MB" if number < 1e9 else f"{number / 1e9:.2f} GB"
