"""Text that may be stored and shown."""

import re
import sys
import unicodedata

import pytest

from api import text

EVERYTHING = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number <= 0xDFFF]
INVISIBLE_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol by their category, of which nothing is drawn."""


def is_visible(character: str) -> bool:
    try:
        return bool(text.visible(character))
    except ValueError:
        return False


def test_characters_of_undrawn_categories_are_invisible() -> None:
    not_drawn = {"Cc", "Cf", "Zs", "Zl", "Zp"}
    assert [each for each in EVERYTHING if unicodedata.category(each) in not_drawn and is_visible(each)] == []
    assert [each for each in INVISIBLE_LETTERS if is_visible(each)] == []


def test_every_other_letter_number_mark_and_symbol_is_visible() -> None:
    variations = set(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810)]))
    not_drawn = {*INVISIBLE_LETTERS, *variations, "\u034f", "\u17b4", "\u17b5"}
    drawn = [each for each in EVERYTHING if unicodedata.category(each)[0] in "LNMPS" and each not in not_drawn]
    assert [each for each in drawn if not is_visible(each)] == []


@pytest.mark.parametrize("control", [each for each in EVERYTHING if unicodedata.category(each) == "Cc"])
def test_controls_are_refused_but_for_tabs_and_line_ends(control: str) -> None:
    if control in "\t\n":
        assert text.without_controls(f"a{control}b") == f"a{control}b"
    else:
        with pytest.raises(ValueError, match=f"U\\+{ord(control):04X}"):
            text.without_controls(f"a{control}b")


@pytest.mark.parametrize("pattern", [text.WITHOUT_NUL, text.WITHOUT_CONTROLS, text.VISIBLE])
def test_the_patterns_for_clients_need_no_unicode_mode(pattern: str) -> None:
    assert pattern.isascii()
    assert not re.search(r"\\[UpPxu]\{|\\U|\\p", pattern)
