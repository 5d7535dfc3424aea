"""Labels that seem to be others, written differently."""

import itertools

import pytest

from peft_sentiment.data.labels import find_spellings


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"pos": 40, "POS": 30, "neg": 50, " Neg": 2}, {"POS": "pos", " Neg": "neg"}),
        ({"very good": 3, "Very  Good": 2, "good": 9}, {"Very  Good": "very good"}),
        ({"pos": 2, "\uff30\uff2f\uff33": 1}, {"\uff30\uff2f\uff33": "pos"}),
        ({"positive": 100, "negative": 90, "postive": 1}, {"postive": "positive"}),
        ({"positive": 100, "negative": 90, "postive": 6}, {}),
        ({"dissatisfied": 100, "satisfied": 1, "unsatisfied": 2}, {}),
        ({"+": 50, "-": 1, "1": 80, "-1": 2, "10": 1}, {}),
        ({}, {}),
    ],
)
def test_labels_that_differ_in_writing_alone_are_found(
    counts: dict[str, int], found: dict[str, str]
) -> None:
    assert find_spellings(counts) == found


def test_names_alike_of_which_each_row_has_its_own_are_no_spellings() -> None:
    names = ["reader" + "".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]
    assert find_spellings(dict.fromkeys(names, 1)) == {}
    assert find_spellings({**dict.fromkeys(names, 1), "readerabz": 20})["readerabc"] == "readerabz"
