"""Search text: the form in which texts are searched and sorted, so that case, accents and width make no difference.

It is made here, and not in Postgres, so that lists of the past, which Python filters and sorts, agree with the others.
"""

from itertools import groupby
from unicodedata import combining, normalize

_LETTERS = frozenset((0, 7, 8, 9))
"""Combining classes of characters that are kept: letters, and marks that make another letter (nukta, kana voicing,
virama)."""
MARKS_BY_DECOMPOSITION = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""Characters that are no marks, but decompose into marks."""
_FEW = 300
"""Number of marks that take `normalize` less than a millisecond, in whatever order they are."""


def search_text(text: str) -> str:
    """Normalise a text: compatibility forms and accents removed (NFKD), case folded, then composed again (NFC).

    `CAFÉ`, in either form, becomes `cafe`, and full-width letters become plain ones (docs/http-api.md, "Lists"). The
    time that this takes grows with the text's length, and not with its square.
    """
    if text.isascii():
        return text.lower()
    folded = normalize("NFKD", normalize("NFKD", with_sorted_marks(text)).casefold())
    accents = {char for char in set(folded) if combining(char) not in _LETTERS}
    return normalize("NFC", "".join([char for char in folded if char not in accents]) if accents else folded)


def with_sorted_marks(text: str) -> str:
    """Return an equivalent text, with adjacent marks in Unicode's canonical order if there are many.

    `normalize` sorts them by insertion: it took up to 120 ms for the longest description, and a batch may have many.
    """
    marks = {char for char in set(text) if combining(char) or char in MARKS_BY_DECOMPOSITION}
    if sum(map(text.count, marks)) <= _FEW:
        return text
    runs = [(is_mark, "".join(run)) for is_mark, run in groupby(text, marks.__contains__)]
    return "".join([_sorted(run) if is_mark else run for is_mark, run in runs])


def _sorted(marks: str) -> str:
    decomposed = "".join([normalize("NFKD", mark) for mark in marks])
    return "".join(sorted(decomposed, key=combining))
