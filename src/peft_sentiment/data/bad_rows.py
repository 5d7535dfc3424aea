"""What becomes of a row that can't be used: it ends the reading, or is left out and noted."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peft_sentiment.errors import BadRowError, DataError
from peft_sentiment.files import write_text
from peft_sentiment.records.skipped import SkippedRow

SKIPPED_FILE = "skipped_rows.jsonl"


@dataclass
class BadRows:
    """Meets the rows that can't be used.

    Attributes:
        are_skipped: whether they are left out; else the first of them ends the reading.
        found: those left out so far, in the order of the files.
    """

    are_skipped: bool = False
    found: list[SkippedRow] = field(default_factory=list)

    def meet(self, error: BadRowError) -> None:
        """Take note of a row that is left out.

        Raises:
            BadRowError: rows are not to be left out.
        """
        if not self.are_skipped:
            advice = "--skip-bad-rows leaves such rows out."
            raise BadRowError(error.place, f"{error.problem} {advice}") from error
        self.found.append(SkippedRow(error.place, error.problem))

    def require_rest(self, source: str, kept: int, found_before: int = 0) -> None:
        """Check that some rows of a source are left.

        Args:
            source: as messages name it.
            kept: rows of it that can be used.
            found_before: bad rows that had been found before it was read.

        Raises:
            DataError: none is left; the message has the first that was left out.
        """
        found = self.found[found_before:]
        if kept or not found:
            return
        raise DataError(
            f"{source}: none of its {len(found):,} rows can be used. The first is "
            f"{found[0].place}: {found[0].reason}"
        )


def write_skipped_rows(path: Path, rows: Sequence[SkippedRow]) -> None:
    """Write a line of JSON for each row that was left out.

    Raises:
        OutputError: the file can't be written.
    """
    lines = (json.dumps(dataclasses.asdict(row), ensure_ascii=False) for row in rows)
    write_text(path, "".join(f"{line}\n" for line in lines))
