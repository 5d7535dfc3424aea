"""Traces of what went wrong with a text: found where they are, and only there."""

import pytest

from peft_sentiment.data.text_faults import find_control_character, find_html, find_mojibake


@pytest.mark.parametrize("text", ["café", "“so”", "naïve…", "好", "😀", "£5", "Ωμέγα", "привет"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_text_read_in_a_wrong_encoding_is_found_and_the_right_one_is_not(
    text: str, encoding: str
) -> None:
    assert find_mojibake(text) is None
    misread = "".join(
        bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode()
    )
    assert misread != text
    assert find_mojibake(f"A film: {misread}, they say") is not None


@pytest.mark.parametrize("text", ["„Spaß“", "Schluß…", "“CAFÉ”", "CAFÉ»", "ENCHANTÉ…", "“fiancé…”"])
def test_letters_before_typographic_signs_are_sound(text: str) -> None:
    assert find_mojibake(text) is None


@pytest.mark.parametrize("text", ["a \x96 b", "it\x92s", "lost \ufffd letter"])
def test_windows_1252_read_as_latin_1_and_lost_letters_are_found(text: str) -> None:
    assert find_mojibake(text) is not None
    assert find_control_character(text) is None


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        ("a <i>fine</i> film", "<i>"),
        ('<a href="x">a</a>', '<a href="x">'),
        ("</DIV>", "</DIV>"),
        ("Tom &amp; Jerry", "&amp;"),
        ("it&#39;s", "&#39;"),
        ("a<!-- b -->", "<!--"),
    ],
)
def test_html_is_found(text: str, trace: str) -> None:
    assert find_html(text) == trace


@pytest.mark.parametrize(
    "text", ["I <3 it", "1 < 2 > 0", "Tom & Jerry; fine", "<grin>", "AT&T", "rock&roll;"]
)
def test_signs_that_are_no_html_are_not_found(text: str) -> None:
    assert find_html(text) is None


@pytest.mark.parametrize("text", ["a\x00b", "a\x08", "a\u200bb", "\ufeffa", "a\u202eb", "\ue000"])
def test_characters_that_show_nothing_are_found(text: str) -> None:
    assert find_control_character(text).startswith("U+")


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\r\nc",
        "👩\u200d👧",
        "ക\u200dഷ",
        "ü — “好”",
        "plain",
        "\U0001fa77",
        "\u2067\u05e9\u05dc\u05d5\u05dd\u2069",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_characters_that_texts_need_are_not_found(text: str) -> None:
    assert find_control_character(text) is None
