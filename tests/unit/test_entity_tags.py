"""Entity tags as clients and proxies send them back."""

import pytest

from api.entity_tags import entity_tags, etag
from commands.precondition import EntityTag

HASH = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
PART = HASH[:8].hex()
THREE, ANY_THREE = EntityTag(3, HASH[:8]), EntityTag(3)


def test_a_tag_is_the_number_and_64_bits_of_the_hash() -> None:
    assert etag(EntityTag(3, HASH)) == '"3-9f86d081884c7d65"'
    assert etag(EntityTag(0)) == '"0"'


@pytest.mark.parametrize("current", [EntityTag(3, HASH), EntityTag(2**63 - 1, HASH), EntityTag(0)])
def test_a_tag_is_read_as_it_was_written(current: EntityTag) -> None:
    found = entity_tags(etag(current))
    assert found
    assert all(each.names(current) for each in found)


def test_a_tag_names_only_what_it_was_written_for_and_a_number_every_state_with_that_number() -> None:
    current = EntityTag(3, HASH)
    for other in (EntityTag(3, HASH[::-1]), EntityTag(4, HASH), EntityTag(3)):
        assert not THREE.names(other)
    assert ANY_THREE.names(current)
    assert ANY_THREE.names(EntityTag(3, HASH[::-1]))
    assert not ANY_THREE.names(EntityTag(4, HASH))


CODINGS = ["-gzip", "--gzip", ";gzip", "-br", "-zstd", "-deflate", "-dcb", "-x-gzip", "-br-gzip"]


@pytest.mark.parametrize("added", ["", *CODINGS])
@pytest.mark.parametrize("weak", ["", "W/", "w/"])
def test_a_tag_changed_by_a_proxy_is_understood(weak: str, added: str) -> None:
    assert entity_tags(f'{weak}"3{added}"') == frozenset({ANY_THREE})
    assert entity_tags(f'{weak}"3-{PART}{added}"') == frozenset({THREE})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("3", {ANY_THREE}),
        ("3-gzip", {ANY_THREE}),
        (f"3-{PART}", {THREE}),
        (f"3-{PART}-gzip", {THREE}),
        (f' "1" , W/"3-{PART}-gzip",3 ', {EntityTag(1), THREE, ANY_THREE}),
        ('"9223372036854775807"', {EntityTag(2**63 - 1)}),
        ('"1", , "2",,3 ,', {EntityTag(1), EntityTag(2), ANY_THREE}),
        (', "1"', {EntityTag(1)}),
        ('"abc", "4"', {EntityTag(4)}),
    ],
)
def test_a_list_of_tags_is_read_for_ours(tags: str, expected: set[EntityTag]) -> None:
    assert entity_tags(tags) == frozenset(expected)


@pytest.mark.parametrize(
    "tags",
    [
        *('"abc"', '"a,b"', '"3x"', '"-3"', '"\u0663"', '""', "", f'"{PART}"', f'"-{PART}"'),
        # A hash that isn't as it was sent is no number alone, nor is it a proxy's addition.
        *(
            f'"3-{part}"'
            for part in (PART[:-1], PART + "0", HASH.hex(), PART.upper(), PART[:-1] + "g", "", "cafe", "dc")
        ),
        *(f'"3{mark}{PART}"' for mark in (";", "--", " ", "-x-", "-gzip-")),
        *(f'"3-{PART}{added}"' for added in ("gzip", "-", "-unknown", f"-{PART}")),
        "3-unknown",
    ],
)
def test_a_foreign_tag_is_ignored(tags: str) -> None:
    assert entity_tags(tags) == frozenset()


@pytest.mark.parametrize("tags", ['"3', '3"', '"3" "4"', ",", ", ,", "abc", "{}", "W/3", "0.5", "3a", 'W/ "3"', "3 4"])
def test_a_list_that_cannot_be_read_is_none(tags: str) -> None:
    assert entity_tags(tags) is None
