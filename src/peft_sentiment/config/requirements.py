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


def require_encoding(name: str, value: str) -> None:
    """Raise a SettingsError unless the value names an encoding of texts that Python has."""
    try:
        "a".encode(value)
    except (LookupError, ValueError):
        need = "the name of an encoding that Python knows, such as utf-8, cp1252 or utf-16"
        raise SettingsError(f"{name} is {value!r}, but must be {need}.") from None


def read_delimiter(name: str, value: str) -> str:
    """Return the character that a setting names: itself, or tab by its name.

    Raises:
        SettingsError: it names none, or one that has another meaning in CSV.
    """
    character = {"tab": "\t", "\\t": "\t"}.get(value, value)
    is_fit = len(character) == 1 and character not in '"\r\n\0'
    require(is_fit, name, value, "one character, such as ;, or tab; and no quote and no line's end")
    return character
