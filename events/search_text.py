"""Search text: the form in which texts are searched and sorted, so that case, accents and width make no difference."""

from unicodedata import combining, normalize

_LETTERS = frozenset((0, 7, 8, 9))
"""Combining classes of characters that are kept: letters, and marks that make another letter (nukta, kana voicing,
virama)."""


def search_text(text: str) -> str:
    """Normalise a text: compatibility forms and accents removed (NFKD), case folded, then composed again (NFC).

    `CAFÉ`, in either form, becomes `cafe`, and full-width letters become plain ones (docs/http-api.md, "Lists").
    """
    if text.isascii():
        return text.lower()
    folded = normalize("NFKD", normalize("NFKD", text).casefold())
    return normalize("NFC", "".join(char for char in folded if combining(char) in _LETTERS))
