"""Search text makes one form of all spellings of a word."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.search_text import search_text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café", "cafe\u0301"),
        ("CAFÉ", "cafe"),
        ("Ελληνικός", "ελληνικος"),
        ("ΟΔΟΣ", "οδός"),
        ("\uff46\uff55\uff4c\uff4c", "full"),
        ("Straße", "STRASSE"),
        ("\u0130stanbul", "istanbul"),
        ("ﬁn", "FIN"),
        ("Łódź", "łodz"),
        ("Йод", "иод"),
        ("שָׁלוֹם", "שלום"),
        ("½", "1\u20442"),
    ],
)
def test_spellings_that_find_each_other(one: str, other: str) -> None:
    assert search_text(one) == search_text(other)


@pytest.mark.parametrize(("one", "other"), [("か", "が"), ("ハ", "パ"), ("क", "क्"), ("ड", "ड़"), ("o", "ø"), ("a", "b")])
def test_letters_that_stay_apart(one: str, other: str) -> None:
    assert search_text(one) != search_text(other)


@pytest.mark.parametrize("word", ["각", "가", "がき", "ไทย", "中文", "🎉"])
def test_words_in_other_scripts_stay_as_they_are(word: str) -> None:
    assert search_text(word) == word


@given(st.text())
def test_a_search_text_is_its_own(text: str) -> None:
    once = search_text(text)
    assert search_text(once) == once


@given(st.text())
def test_case_and_form_make_no_difference(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert search_text(unicodedata.normalize(form, text)) == search_text(text)


@given(st.text(), st.text(), st.text())
def test_a_part_between_spaces_is_found_in_the_whole(before: str, word: str, after: str) -> None:
    """Since no character's form depends on what is around it but a letter's own marks."""
    assert search_text(word) in search_text(f"{before} {word} {after}")
