"""The packages' plain names resolve to this repository, wherever Python was started from."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_found_in_this_repository(package: str) -> None:
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found) == ROOT / package / "__init__.py"
    assert package not in sys.stdlib_module_names


def test_the_wheel_lists_every_package() -> None:
    there = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert there - {"tests", "bench"} == set(PACKAGES)


def test_the_image_is_built_from_every_package() -> None:
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert not set(PACKAGES) - kept


def test_coverage_and_types_look_at_every_package() -> None:
    tools = PROJECT["tool"]
    assert tools["coverage"]["run"]["source"] == PACKAGES
    assert not set(PACKAGES) - set(tools["mypy"]["files"])


def test_no_module_of_ours_is_named_like_one_of_the_standard_library() -> None:
    modules = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not modules & set(sys.stdlib_module_names)


def test_the_service_does_not_load_alembic() -> None:
    code = "import sys, api.app, cli.serve; print([*{'alembic', 'sqlalchemy', 'mako'} & {*sys.modules}])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
