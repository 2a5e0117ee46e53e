"""Names and values as the environment, `.env` and the container's secrets give them, before they are settings."""

import sys
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from config.errors import BadSettings

NO_TEXT = (
    f"isn't text in {sys.getfilesystemencoding()}, the encoding of this environment; write it so, or set LANG=C.UTF-8"
)

_UTF_8 = "utf-8-sig"
"""Encoding of files: Windows' editors write a byte order mark, which is no part of a value."""

_ALIKE = 0.9
"""Similarity (`difflib`) from which a name is taken for a misspelt one: one letter of a name, two of a long one."""


def merged(*sources: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names in capitals with their values. Later sources go first; an empty value counts as none."""
    return {name.upper(): value for source in sources for name, value in source.items() if value}


def secret_files(folder: Path, known: Collection[str]) -> dict[str, str]:
    """Return the folder's files by name, with their text if the name is known. Raises `BadSettings`."""
    found = {}
    path = folder
    try:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file():
                found[path.name] = path.read_text(_UTF_8).strip() if path.name.upper() in known else "unread"
    except OSError as error:
        raise BadSettings(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{path}: isn't UTF-8; save it as UTF-8") from error
    return found


def with_named_files(source: Mapping[str, str | None], known: Collection[str]) -> dict[str, str | None]:
    """Return the names and values of `source`; instead of `NAME_FILE`, for a known NAME, NAME with that file's text.

    Raises `BadSettings` if a file can't be read or is empty, or if both names are given. It doesn't show the file's
    name, since that may be the secret itself, by mistake.
    """
    values = dict(source)
    for given, path in source.items():
        name = given.upper().removesuffix("_FILE")
        if not path or name == given.upper() or name not in known:
            continue
        if any(value for other, value in source.items() if other.upper() == name):
            raise BadSettings(f"{given}: {name} is set, too; unset one of them")
        try:
            text = Path(path).read_text(_UTF_8).strip()
        except OSError as error:
            raise BadSettings(f"{given}: the file that it names can't be read: {error.strerror}") from None
        except ValueError:  # not UTF-8, or a path with NUL
            raise BadSettings(f"{given}: must name a file in UTF-8") from None
        if not text:
            raise BadSettings(f"{given}: the file that it names is empty")
        del values[given]
        values[name] = text
    return values


def spoilt(environment: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    """Yield a message for each known variable that can't be meant as it arrived."""
    for name, value in environment.items():
        if name.upper() not in known:
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            yield f"{name}: the quotes are part of the value; remove them (docker's --env-file keeps quotes)"
        elif not is_text(value):
            yield f"{name}: {NO_TEXT}"


def near_misses(given: Collection[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return each unknown name that is almost a known one, with that one, if its setting isn't given by any name."""
    done = {setting for name, setting in known.items() if name in given}
    open_ = [name for name, setting in known.items() if setting not in done]
    found = {}
    for name in sorted(set(given).difference(known)):
        if meant := get_close_matches(name, open_, n=1, cutoff=_ALIKE):
            found[name] = meant[0]
    return found


def is_text(value: str) -> bool:
    """Say whether Python could decode an argument or a variable of the environment."""
    return not any("\ud800" <= each <= "\udfff" for each in value)
