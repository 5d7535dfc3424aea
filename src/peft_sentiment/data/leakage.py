"""Reviews of one part that are nearly the same as reviews of another."""

import dataclasses

from peft_sentiment.config import DataSettings
from peft_sentiment.data.near_duplicates import find_near_duplicates
from peft_sentiment.errors import DataError
from peft_sentiment.records.reviews import Reviews, Splits


def settle_near_duplicates(splits: Splits, settings: DataSettings) -> Splits:
    """Count the reviews that are nearly the same as one of another part, and drop them if asked to.

    What is counted and dropped are training reviews that are like a test or validation review, and
    validation reviews that are like a test review; test reviews stay.

    Raises:
        DataError: no training review would be left.
    """
    if settings.near_duplicates == "ignore":
        return splits
    parts = (splits.test, splits.validation, splits.train)
    texts = [text for part in parts for text in part.texts]
    numbers = [number for number, part in enumerate(parts) for _ in part.texts]
    similarity = settings.near_duplicate_similarity
    found = set(find_near_duplicates(texts, similarity, numbers).find_places().tolist())
    counted = dataclasses.replace(splits, near_duplicates=len(found))
    if settings.near_duplicates == "report" or not found:
        return counted
    start = len(splits.test)
    validation = _leave_out(splits.validation, found, start)
    train = _leave_out(splits.train, found, start + len(splits.validation))
    if not len(train):
        raise DataError(
            f"{splits.name}: all {len(splits.train):,} training reviews are nearly the same as "
            "test or validation reviews, and --near-duplicates drop leaves none. Raise "
            "--near-duplicate-similarity, or have them reported alone."
        )
    return dataclasses.replace(counted, validation=validation, train=train)


def _leave_out(part: Reviews, found: set[int], start: int) -> Reviews:
    return part.take([place for place in range(len(part)) if start + place not in found])
