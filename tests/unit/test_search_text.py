"""Search text makes one form of all spellings of a word."""

import re
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.search_text import MARKS_BY_DECOMPOSITION, search_text, with_sorted_marks


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
    """A character's form depends on nothing around it but a letter's own marks."""
    assert search_text(word) in search_text(f"{before} {word} {after}")


MARKS = "\u0300\u0327\u0344\u0345\u093c\u094d\u3099" + MARKS_BY_DECOMPOSITION


def as_defined(text: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize(
        "NFC", "".join([char for char in folded if unicodedata.combining(char) in (0, 7, 8, 9)])
    )


@given(st.text(st.sampled_from(MARKS + "aÉᾳß\u0391\u0915\u304b\u1e69\ufdfa ")))
def test_a_search_text_is_as_defined(text: str) -> None:
    for each in (text, text * (1 + 100 // (1 + len(text)))):
        assert search_text(each) == as_defined(each)


def test_the_search_text_of_each_character_is_as_defined() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        assert search_text(f"\u1fb3{char}\u094d\u093c") == as_defined(f"\u1fb3{char}\u094d\u093c"), char


def test_a_search_text_of_many_accents_is_as_defined() -> None:
    text = "".join(f"a\u1e69\u1fb3{chr(each)}" for each in range(0x300, 0x370))
    assert search_text(text) == as_defined(text)


def test_an_expression_is_made_of_no_accent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of hundreds of marks takes longer to be compiled than the longest text to be searched."""
    sub, made = re.sub, list[str]()

    def noting(pattern: str, *arguments: Any) -> str:
        made.append(pattern)
        return sub(pattern, *arguments)

    monkeypatch.setattr(re, "sub", noting)
    text = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(char))
    assert search_text(text) == as_defined(text)
    assert [char for char in set("".join(made)) if unicodedata.combining(char) not in (0, 7, 8, 9, 240)] == []


@given(st.text(st.sampled_from(MARKS + "aé ")))
def test_sorted_marks_make_an_equivalent_text(text: str) -> None:
    many = text * (1 + 400 // (1 + len(text)))
    for form in ("NFKC", "NFKD"):
        assert unicodedata.normalize(form, with_sorted_marks(many, set(many))) == unicodedata.normalize(form, many)


@pytest.mark.parametrize("mark", MARKS)
def test_a_long_run_of_marks_is_sorted_before_it_is_normalised(mark: str) -> None:
    """Normalising takes quadratic time for marks in the reverse order."""
    text = f"a{MARKS * 10}b{mark * 300}c"
    for run in with_sorted_marks(text, set(text))[1:-1].split("b"):
        assert list(map(unicodedata.combining, run)) == sorted(map(unicodedata.combining, run))
        assert unicodedata.normalize("NFKD", run) == run


def test_all_marks_are_known() -> None:
    """A character is a mark if its decomposition begins with one, and then it has nothing else."""
    for char in map(chr, range(sys.maxunicode + 1)):
        marks = [unicodedata.combining(each) > 0 for each in unicodedata.normalize("NFKD", char)]
        assert marks[0] == all(marks) == (unicodedata.combining(char) > 0 or char in MARKS_BY_DECOMPOSITION), char
