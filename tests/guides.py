"""The code in the guides to frontends: it is that of examples/next, copied by `make guides`."""

import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/next"
GUIDES = [ROOT / f"docs/guides/{name}.md" for name in ("better-auth", "frontend", "page", "safe-writes", "teams")]

_BLOCK = re.compile(r"(?ms)^```(tsx?|js)\n(.*?)^```$")
_REGION = re.compile(r"(?m)^ *// #(?:end)?region.*\n")


def filled(guide: str) -> str:
    """Return the guide with the code of the files that its blocks name: `// PATH` or `// PATH, REGION`."""
    return _BLOCK.sub(_with_code, guide)


def _with_code(block: re.Match[str]) -> str:
    language, text = block.groups()
    name = text.partition("\n")[0]
    path, _, region = name.removeprefix("// ").partition(", ")
    assert path.endswith(f".{language}"), f"a block doesn't name its file: {name}"
    code = (EXAMPLE / path).read_text()
    if region:
        found = re.search(rf"(?ms)^ *// #region {region}\n(.*?)^ *// #endregion$", code)
        assert found, f"{path} has no region {region}"
        code = dedent(found[1])
    return f"```{language}\n{name}\n{_REGION.sub('', code)}```"


if __name__ == "__main__":
    for guide in GUIDES:
        guide.write_text(filled(guide.read_text()))
