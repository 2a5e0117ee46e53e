"""Search text: the form in which texts are searched and sorted, so that case, accents and width make no difference.

It is made here, and not in Postgres, so that lists of the past, which Python filters and sorts, agree with the others.
"""

import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from unicodedata import combining, normalize

_LETTERS = frozenset((0, 7, 8, 9))
"""Combining classes of characters that are kept: letters, and marks that make another letter (nukta, kana voicing,
virama)."""
_IOTA = "\u0345"
"""The only mark that case folding makes a letter."""
MARKS_BY_DECOMPOSITION = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""Characters that are no marks, but decompose into marks."""
_MARKS = frozenset(filter(combining, map(chr, range(0x20000)))).union(MARKS_BY_DECOMPOSITION)
_ACCENTS = frozenset(mark for mark in _MARKS if combining(mark) not in _LETTERS and mark != _IOTA)
_FEW = 16
"""Number of adjacent marks that `normalize` sorts in a microsecond, in whatever order they are."""
_ACCENT = f"[{''.join(mark for mark in _ACCENTS if mark < chr(0x10000))}]"
_without_runs = re.compile(f"{_ACCENT}{_ACCENT}{{{_FEW - 1},}}").sub  # twice as fast as with one count


def search_text(text: str) -> str:
    """Normalise a text: compatibility forms and accents removed (NFKD), case folded, then composed again (NFC).

    `CAFÉ`, in either form, becomes `cafe`, and full-width letters become plain ones (docs/http-api.md, "Lists"). The
    time that this takes grows with the text's length, and not with its square.
    """
    if text.isascii():
        return text.lower()
    if len(text) > _FEW:
        text = _without_runs("", text)  # what no language has takes less time than a letter
    chars = set(text)
    accents = chars & _ACCENTS
    chars -= accents
    text = with_sorted_marks(_without(text, accents), chars)
    of_folded = set(_folded("".join(chars)))  # a letter may become a dozen
    return normalize("NFC", _without(_folded(text), of_folded & _ACCENTS))


def _folded(text: str) -> str:
    return normalize("NFKD", normalize("NFKD", text).casefold())


def _without(text: str, accents: AbstractSet[str]) -> str:
    if len(accents) > 64:
        return "".join([char for char in text if char not in accents])
    for accent in accents:
        text = text.replace(accent, "")
    return text


def with_sorted_marks(text: str, chars: Collection[str]) -> str:
    """Return an equivalent text, with adjacent marks in Unicode's canonical order if there are many.

    `normalize` sorts them by insertion, in quadratic time: for the longest description it took up to 120 ms. `chars`
    has at least the characters of the text.
    """
    marks = "".join(_MARKS.intersection(chars))
    if not marks or len(text) < _FEW:
        return text
    return re.sub(f"[{marks}]{{{_FEW},}}", lambda run: _sorted(run[0]), text)


def _sorted(marks: str) -> str:
    decomposed = {mark: normalize("NFKD", mark) for mark in set(marks)}
    return "".join(sorted("".join([decomposed[mark] for mark in marks]), key=combining))
