"""What a setting's value must be, and the sentence that says so."""

from peft_sentiment.errors import SettingsError, suggest

SHORTEST_PART = 8
"""Fewest tokens of a text, or a part of one, that say anything: a few words between the special
tokens."""


def require(condition: bool, name: str, value: object, need: str) -> None:
    """Raise a SettingsError that names the setting and what it must be, unless it is that."""
    if not condition:
        raise SettingsError(f"{name} is {value!r}, but must be {need}.")


def require_part(name: str, tokens: int) -> None:
    """Raise a SettingsError unless a part of a text has enough tokens, or there is none (0)."""
    is_part = tokens == 0 or tokens >= SHORTEST_PART
    require(is_part, name, tokens, f"0, or at least {SHORTEST_PART}")


def require_size(name: str, value: int | str, smallest: int) -> None:
    """Raise a SettingsError unless the value is a size from `smallest` up, full or auto."""
    is_size = value in ("full", "auto") or (isinstance(value, int) and value >= smallest)
    require(is_size, name, value, f'a number from {smallest} up, "full" or "auto"')


def require_known(name: str, known: list[str], what: str) -> None:
    """Raise a SettingsError that says what was probably meant, unless the name is known."""
    if name not in known:
        raise SettingsError(f"{what} does not exist. {suggest(name, known)}")
