"""The page at /ui/: its files, its policy, and where it is served."""

import json
import re
from html import unescape
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest

from tests.service import SECRET, Service, serving

pytestmark = pytest.mark.edge

IN_PRODUCTION = {
    "environment": "production",
    "jwt_secret": SECRET,
    "web": True,
    "web_login_url": "https://a.example/in",
}


def config_of(page: httpx2.Response) -> Any:
    found = re.search(r'<meta name="daybook" content="([^"]*)"', page.text)
    assert found
    return json.loads(unescape(found[1]))


def loaded(page: httpx2.Response) -> list[str]:
    """Return the URLs that a browser gets with the page."""
    return [urljoin(str(page.url), each) for each in re.findall(r'(?:src|href)="([^"]+)"', page.text)]


@pytest.mark.parametrize("prefix", ["", "/daybook"])
async def test_the_page_loads_from_its_own_origin_and_under_its_own_prefix_only(
    unchanged_database: str, prefix: str
) -> None:
    async with serving(unchanged_database, root_path=prefix, jwt_user_claim="user.id") as service:
        for path in ("/ui/", "/ui"):
            page = await service.client.get(prefix + path, headers={"Authorization": ""})
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert config_of(page) == {"base": prefix, "userClaim": "user.id", "loginUrl": None}
            assert len(loaded(page)) == 3
            for url in loaded(page):
                assert url.startswith(f"http://daybook{prefix}/ui/assets/")
                assert (await service.client.get(url)).status_code == 200


async def test_the_page_may_run_nothing_but_its_own_files(service: Service) -> None:
    page = await service.client.get("/ui/")
    policy = dict(each.partition(" ")[::2] for each in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img", "worker")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script>|<style|style=|\bon[a-z]+=", page.text)
    worker = await service.client.get(loaded(page)[1])
    assert worker.headers["content-security-policy"] == page.headers["content-security-policy"]


async def test_files_are_kept_for_a_year_and_the_index_is_asked_for_each_time(service: Service) -> None:
    page = await service.client.get("/ui/")
    assert page.headers["cache-control"] == "no-cache"
    for url in (str(page.url), *loaded(page)):
        answer = await service.client.get(url)
        again = await service.client.get(url, headers={"If-None-Match": f'"x", W/{answer.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]
        changed = await service.client.get(url, headers={"If-None-Match": '"x"'})
        assert changed.status_code == 200
        if url != str(page.url):
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_files_are_compressed_for_browsers_that_say_so(service: Service) -> None:
    for url in loaded(await service.client.get("/ui/")):
        plain = await service.client.get(url, headers={"Accept-Encoding": "identity"})
        zipped = await service.client.get(url, headers={"Accept-Encoding": "gzip, br"})
        assert "content-encoding" not in plain.headers
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.content == plain.content
        assert zipped.headers["etag"] != plain.headers["etag"]
        assert zipped.headers["vary"].startswith("Accept-Encoding")


@pytest.mark.parametrize("name", ["x.js", "index.html", "..%2findex.html", "..%2f..%2fweb.py", "x/y.js", "%00"])
async def test_nothing_else_is_served(service: Service, name: str) -> None:
    answer = await service.client.get(f"/ui/assets/{name}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("path", ["/ui/", "/"])
async def test_the_page_takes_get_and_head_only(service: Service, path: str) -> None:
    assert (await service.client.post(path)).status_code == 405
    head, page = await service.client.head(path), await service.client.get(path)
    assert (head.status_code, head.content) == (page.status_code, b"")


@pytest.mark.parametrize("prefix", ["", "/daybook"])
async def test_the_root_leads_to_the_page_in_development(unchanged_database: str, prefix: str) -> None:
    async with serving(unchanged_database, root_path=prefix) as service:
        answer = await service.client.get(f"{prefix}/")
        assert (answer.status_code, answer.headers["location"]) == (307, f"{prefix}/ui/")


async def test_in_production_there_is_a_page_only_if_it_is_asked_for(unchanged_database: str) -> None:
    async with serving(unchanged_database, **{**IN_PRODUCTION, "web": None}) as service:
        for path in ("/ui/", "/"):
            assert (await service.client.get(path)).status_code == 404
    async with serving(unchanged_database, **IN_PRODUCTION) as service:
        assert config_of(await service.client.get("/ui/"))["loginUrl"] == "https://a.example/in"
        assert (await service.client.get("/")).status_code == 404


async def test_in_development_the_page_can_be_turned_off(unchanged_database: str) -> None:
    async with serving(unchanged_database, web=False) as service:
        for path in ("/ui/", "/"):
            assert (await service.client.get(path)).status_code == 404
