"""API keys: read from a file or the environment, compared in constant time."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from peft_sentiment.errors import SettingsError

KEYS_VARIABLE = "PEFT_SENTIMENT_API_KEYS"
SHORTEST_KEY = 16
"""Characters; a shorter key can be guessed."""


class ApiKeys:
    """The keys that are let in; only their digests are kept."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._digests)

    def let_in(self, authorization: str | None) -> bool:
        """Tell whether an Authorization header holds a key; without any keys, everyone is let in.

        The time does not depend on which key it is, nor on how much of it is right.
        """
        if not self._digests:
            return True
        kind, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(found) and kind.lower() == "bearer"


def load_api_keys(file: str | None, environment: Mapping[str, str]) -> ApiKeys:
    """Read the keys of a file, one a line, and of the environment, with commas between.

    Raises:
        SettingsError: the file can't be read or holds no key, or a key is too short.
    """
    keys = [key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",")]
    if file is not None:
        in_file = _read_lines(Path(file))
        if not in_file:
            raise SettingsError(f"{file}: there is no key in it. Write one a line.")
        keys += in_file
    keys = [key for key in keys if key]
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise SettingsError(
            f"An API key has fewer than {SHORTEST_KEY} characters, so it can be guessed. "
            "Make one with: openssl rand -hex 24"
        )
    if not all(key.isascii() for key in keys):
        raise SettingsError(
            "An API key has characters beyond ASCII, which a header has no one way to hold. "
            "Make one with: openssl rand -hex 24"
        )
    return ApiKeys(tuple(keys))


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: the keys can't be read ({error}). Name a text file with --api-keys-file."
        ) from error
    stripped = [line.strip() for line in lines]
    return [line for line in stripped if line and not line.startswith("#")]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
