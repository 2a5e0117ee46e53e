"""Entity tags as clients and proxies send them back."""

import pytest

from api.entity_tags import etag, numbers


def test_a_tag_is_read_as_it_was_written() -> None:
    assert numbers(etag(3)) == frozenset({3})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ('"3"', {3}),
        ('W/"3"', {3}),
        ('w/"3"', {3}),
        ('"3-gzip"', {3}),
        ('W/"3--br"', {3}),
        ('"3;gzip"', {3}),
        ("3", {3}),
        (' "1" , W/"2-gzip",3 ', {1, 2, 3}),
        ('"9223372036854775807"', {2**63 - 1}),
        ('"1", , "2",,3 ,', {1, 2, 3}),
        (', "1"', {1}),
        ('"abc"', set()),
        ('"abc", "4"', {4}),
        ('"a,b"', set()),
        ('"3x"', set()),
        ('"-3"', set()),
        ('"\u0663"', set()),
        ('""', set()),
        ("", set()),
    ],
)
def test_a_list_of_tags_is_read_for_our_numbers(tags: str, expected: set[int]) -> None:
    assert numbers(tags) == frozenset(expected)


@pytest.mark.parametrize("tags", ['"3', '3"', '"3" "4"', ",", ", ,", "abc", "{}", "W/3", "0.5", "3a", 'W/ "3"', "3 4"])
def test_a_list_that_cannot_be_read_is_none(tags: str) -> None:
    assert numbers(tags) is None
