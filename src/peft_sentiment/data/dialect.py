"""How the text of a file is written, where that is not what its ending says."""

from dataclasses import dataclass

from peft_sentiment.config import DataSettings
from peft_sentiment.data.utf8 import UTF_8


@dataclass(frozen=True)
class Dialect:
    """How the text of a file is written.

    Attributes:
        encoding: Python's name of it.
        delimiter: between the fields of a CSV or TSV file; None goes by the ending.
    """

    encoding: str = UTF_8
    delimiter: str | None = None

    @classmethod
    def of(cls, settings: DataSettings) -> "Dialect":
        """Return the one that the settings name."""
        return cls(settings.encoding, settings.delimiter)


USUAL = Dialect()

_DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}
"""What may stand between fields -> how the flag takes it."""


def advise_delimiter(header: list[str], delimiter: str) -> str:
    """Return what to do with a header that was read as one column and holds a delimiter, or ""."""
    if len(header) != 1:
        return ""
    counts = {other: header[0].count(other) for other in _DELIMITERS if other != delimiter}
    likely = max(counts, key=counts.__getitem__)
    if not counts[likely]:
        return ""
    return (
        "It seems to be several columns with another character between them: name it with "
        f"--delimiter {_DELIMITERS[likely]}."
    )
