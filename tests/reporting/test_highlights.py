"""A highlighted review is the review itself, but for long stretches that were not read."""

from peft_sentiment.records.explanation import Explanation, WordScore
from peft_sentiment.reporting.highlights import LONGEST_UNREAD, highlight


def explain(text: str, scores: list[float | None]) -> Explanation:
    words, place = [], 0
    for word, score in zip(text.split(), scores, strict=True):
        start = text.index(word, place)
        place = start + len(word)
        words.append(WordScore(start, place, score))
    return Explanation(text, "positive", 0.9, 2.0, 0.5, 0.01, tuple(words))


def test_the_pieces_are_the_whole_text_with_its_gaps() -> None:
    text = "  A  good\n film, though long. "
    review = highlight(explain(text, [0.0, 2.0, 0.1, -0.5, None]))
    assert "".join(piece.text for piece in review.pieces) == text


def test_words_are_measured_by_the_strongest_and_weak_ones_stay_plain() -> None:
    review = highlight(explain("a good dull film", [0.1, 2.0, -1.0, 0.2]))
    strengths = {piece.text: piece.strength for piece in review.pieces if piece.text.strip()}
    assert strengths == {"a": 0, "good": 1, "dull": -0.5, "film": 0}


def test_a_long_stretch_that_was_not_read_is_only_counted() -> None:
    unread = LONGEST_UNREAD + 1
    text = "good " + "x " * unread + "film"
    review = highlight(explain(text, [1.0, *[None] * unread, 0.5]))
    assert "".join(piece.text for piece in review.pieces) == f"good [{unread} words not read]  film"


def test_a_short_stretch_that_was_not_read_is_shown() -> None:
    review = highlight(explain("good x y film", [1.0, None, None, 0.5]))
    assert [piece.text for piece in review.pieces if not piece.is_read] == ["x", " ", "y"]


def test_a_review_without_any_score_is_plain_text() -> None:
    review = highlight(explain("a film", [0.0, 0.0]))
    assert {piece.strength for piece in review.pieces} == {0}
