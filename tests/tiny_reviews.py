"""Film reviews made of a few hundred words, whose labels can be learned; torch-free."""

import csv
from pathlib import Path

import numpy as np

from peft_sentiment.records.reviews import Reviews


def _list_words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


POSITIVE_WORDS = _list_words(
    """
amazing beautiful best brilliant charming clever delightful excellent fantastic fine fresh funny
good gorgeous great gripping happy honest joyful love loved lovely masterpiece memorable moving
perfect powerful smart strong stunning superb sweet thrilling touching warm wonderful
"""
)

NEGATIVE_WORDS = _list_words(
    """
annoying awful bad bland boring cheap clumsy confusing dead disappointing disaster dreadful dull
empty failed flat forced garbage hate hated horrible lame lazy mess painful pathetic poor
predictable ridiculous sad shallow silly slow stupid terrible tired ugly waste weak worst
"""
)

NEUTRAL_WORDS = _list_words(
    """
a about above acting action actor actors actress after again all almost along also always an and
another any are around as at audience back background based be because been before began behind
being between big book both boy brother but by camera came can car cast character characters
child cinema city classic close comedy comes could country crime day days death dialogue did
director do documentary does done down drama during each early ending enough episode even ever
every everyone evening family far father few fight film films find first follow for found friend
from full game genre get give go goes going had half hand happens has have he her here him his
hollywood home hour hours house how husband i if in interesting into is it its job just kind know
known last later law least left less life like line little live long look lost made main make
makes man many may me men might minute minutes money moment more most mother movie movies much
murder music must my name never new next night no not nothing now of off often old on once one only
or original other our out over own part past people performance picture place play plays plot point
pretty probably quite rather real reason rest right role room said same saw say scene scenes school
score screen script second see seen seems series set several she should show side since sister
small so some something song soon sound space special star stars start still story style such
summer take takes tell than that the their them then there these they thing things this those
though three through time title to together told too town tries true turn tv two under until up us
used version very viewer voice wait war was watch watched watching way we week well went were what
when where which while who whole whose wife will with without woman women word work world would
writer year years yet you young your
"""
)

TOPICS = (
    "film",
    "movie",
    "story",
    "plot",
    "cast",
    "music",
    "acting",
    "script",
    "ending",
    "director",
)
FILLERS = (
    "I watched it with my family one evening last summer.",
    "It is based on a book that came out many years before the war.",
    "The camera follows a young woman through the city, day after day.",
    "There are two brothers, a father and a house by the old road!",
    "Most of the scenes play in one room of a small school...",
    "It runs for about 2 hours, and then the credits roll.",
)
SENTIMENT_WORDS = {
    "negative": ("awful", "bad", "boring", "dull", "terrible", "worst"),
    "positive": ("amazing", "brilliant", "good", "great", "superb", "wonderful"),
}
OPPOSITES = {"negative": "positive", "positive": "negative"}

SHARE_OF_OPINIONS = 0.8
SHARE_OF_OPPOSITE_WORDS = 0.1
MOST_SENTENCES = 16
"""Between the first and the last: the longest reviews outgrow a tiny encoder's positions."""


def build_tiny_reviews(count: int = 200, seed: int = 0) -> Reviews:
    """Build reviews that are all unlike, every second one positive; the same ones every time.

    A review begins and ends with an opinion, so that its label can be told from any part of it
    that a truncation keeps; about a tenth of its sentiment words speak for the other label.
    """
    generator = np.random.default_rng(seed)
    labels = [("negative", "positive")[i % 2] for i in range(count)]
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts.setdefault(_write_review(labels[len(texts)], generator))
    return Reviews(list(texts), labels)


def _write_review(label: str, generator: np.random.Generator) -> str:
    sentences = [_write_opinion(label, generator), _write_opinion(label, generator)]
    for _ in range(generator.integers(MOST_SENTENCES)):
        is_opinion = generator.random() < SHARE_OF_OPINIONS
        sentence = _write_opinion(label, generator) if is_opinion else _pick(FILLERS, generator)
        sentences.insert(-1, sentence)
    return " ".join(sentences)


def _write_opinion(label: str, generator: np.random.Generator) -> str:
    topic = _pick(TOPICS, generator)
    words = []
    for _ in range(2):
        is_opposite = generator.random() < SHARE_OF_OPPOSITE_WORDS
        side = OPPOSITES[label] if is_opposite else label
        words.append(_pick(SENTIMENT_WORDS[side], generator))
    return f"The {topic} was {words[0]} and {words[1]}."


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[generator.integers(len(choices))]


def write_reviews_csv(
    path: Path, reviews: Reviews, text_column: str = "text", label_column: str = "label"
) -> Path:
    """Write reviews as a CSV file with a header; return the path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([text_column, label_column])
        writer.writerows(zip(reviews.texts, reviews.labels, strict=True))
    return path
