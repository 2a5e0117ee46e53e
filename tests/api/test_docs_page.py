"""The page at /docs loads only the service's own files, under a prefix too."""

import re
from urllib.parse import urljoin

import httpx2
import pytest

from tests.service import Service, serving

pytestmark = pytest.mark.edge

FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}


def loaded(page: httpx2.Response) -> list[str]:
    """Return the URLs that a browser gets with the page, those of data aside."""
    found = re.findall(r'(?:src|href|data-document)="([^"]+)"', page.text)
    return [urljoin(str(page.url), each) for each in found if each != "data:,"]


@pytest.mark.parametrize("prefix", ["", "/daybook"])
async def test_the_page_loads_from_its_own_origin_and_under_its_own_prefix_only(
    unchanged_database: str, prefix: str
) -> None:
    async with serving(unchanged_database, root_path=prefix) as service:
        for path in ("/docs", "/docs/"):
            page = await service.client.get(prefix + path, headers={"Authorization": ""})
            assert page.status_code == 200
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            here = f"http://daybook{prefix}"
            assert set(loaded(page)) == {*(f"{here}/docs/{name}" for name in FILES), f"{here}/openapi.json"}
            for url in loaded(page):
                assert (await service.client.get(url)).status_code == 200


async def test_the_page_may_neither_load_nor_run_anything_else(service: Service) -> None:
    page = await service.client.get("/docs")
    policy = dict(each.split(" ", 1) for each in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script>|<style|style=|\bon[a-z]+=", page.text)


@pytest.mark.parametrize("name", FILES)
async def test_the_pages_files_are_cached_by_browsers_for_a_day(service: Service, name: str) -> None:
    answer = await service.client.get(f"/docs/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, FILES[name])
    assert answer.headers["cache-control"] == "public, max-age=86400"
    assert answer.headers["x-content-type-options"] == "nosniff"
    if name != "start.js":
        again = await service.client.get(f"/docs/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
        assert again.headers["cache-control"] == "public, max-age=86400"


@pytest.mark.parametrize("name", ["LICENSE", "x", "..%2f..%2fstandalone_docs.py", "swagger-ui.css%00", "redoc/x"])
async def test_no_other_file_of_the_package_is_served(service: Service, name: str) -> None:
    answer = await service.client.get(f"/docs/{name}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in FILES)])
async def test_the_page_takes_get_and_head_only(service: Service, path: str) -> None:
    assert (await service.client.post(path)).status_code == 405
    head = await service.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
