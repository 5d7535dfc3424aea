"""What went wrong with a text on its way into a file, told by what it left behind."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from html.entities import html5

from peft_sentiment.data.columns import shorten

_WINDOWS_1252 = re.compile("[\x80-\x9f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")

_TAG = re.compile(
    r"</?(?:a|abbr|article|b|big|blockquote|body|button|center|cite|code|div|em|font|footer|form"
    r"|h[1-6]|head|header|hr|html|i|iframe|img|input|li|link|meta|nav|ol|option|p|pre|script"
    r"|section|select|small|span|strike|strong|style|sub|sup|svg|table|tbody|td|th|title|tr|tt|u"
    r"|ul|video)(?:\s[^<>]*)?/?>|<!--",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#[0-9]{2,6}|#x[0-9a-f]{2,5}|[a-z][a-z0-9]{1,31});", re.I)

_ALLOWED_CONTROLS = "\t\n\r"
# Joiners, marks and isolates of direction, and tags of flags, which languages and emoji need.
_ALLOWED_FORMATS = re.compile("[\u200c-\u200f\u00ad\u2066-\u2069\U000e0020-\U000e007f]")
_NO_CHARACTER = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")

# Quotes, dashes and ellipses, which stand behind a letter in a sound text, as in „Spaß“.
_TYPOGRAPHIC = frozenset(
    "\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2026\u00ab\u00bb\u2039\u203a"
)
# What is read in a wrong encoding most often: letters of Europe's west, quotes, dashes, currencies.
_USUALLY_MISREAD = re.compile("[\u00a0-\u017f\u2010-\u206f\u20a0-\u20cf]")


def find_mojibake(text: str) -> str | None:
    """Return the first letters that were read in a wrong encoding, such as 'Ã©' for 'é'.

    That are letters whose bytes in Windows-1252 are well-formed UTF-8, which hardly ever happens
    by chance; quotes and dashes of Windows-1252 that were read as Latin-1; and the sign that
    stands for a lost letter.
    """
    if text.isascii():
        return None
    if quote := _WINDOWS_1252.search(text):
        return f"U+{ord(quote[0]):04X}"
    for match in _NOT_ASCII.finditer(text):
        if "\ufffd" in match[0] or _is_double_encoded(match[0]):
            return shorten(match[0], 20)
    return None


def _is_double_encoded(letters: str) -> bool:
    try:
        decoded = b"".join(map(_encode_letter, letters)).decode("utf-8")
    except ValueError:
        return False
    is_sound = _TYPOGRAPHIC.issuperset(letters[1:]) and not _USUALLY_MISREAD.match(decoded)
    return len(decoded) < len(letters) and not is_sound


def _encode_letter(letter: str) -> bytes:
    # Windows-1252 has no meaning for five bytes, which programs then pass on as Latin-1 does.
    try:
        return letter.encode("cp1252")
    except UnicodeEncodeError:
        return letter.encode("latin-1")


def find_html(text: str) -> str | None:
    """Return the first HTML tag or entity; line breaks are not among them, they are cleaned."""
    if "<" in text and (tag := _TAG.search(text)):
        return shorten(tag[0], 40)
    if "&" in text:
        for entity in _ENTITY.findall(text):
            if entity[1] == "#" or entity[1:] in html5:
                return str(entity)
    return None


def find_control_character(text: str) -> str | None:
    """Return the first character that shows nothing and has no place in a text."""
    if text.isascii() and text.isprintable():
        return None
    for character in text:
        kind = unicodedata.category(character)
        is_control = kind in ("Cc", "Co") and character not in _ALLOWED_CONTROLS
        is_control = is_control or (kind == "Cn" and _NO_CHARACTER.match(character) is not None)
        if _WINDOWS_1252.match(character):
            continue  # read in a wrong encoding, which is a fault of its own
        if is_control or (kind == "Cf" and not _ALLOWED_FORMATS.match(character)):
            return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()
    return None


FAULTS: Mapping[str, Callable[[str], str | None]] = {
    "mojibake": find_mojibake,
    "html": find_html,
    "control": find_control_character,
}
"""Kind of fault -> what finds the first trace of it in a text."""
