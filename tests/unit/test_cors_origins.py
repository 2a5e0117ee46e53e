"""CORS_ORIGINS: the patterns it takes, and the origins that they allow."""

import pytest

from config.origins import Origins, parse

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
MOZ = "moz-extension://5a0c7d3e-8f44-4d5c-9a83-5d9f2b7a6c11"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://App.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:8080", "http://app.example.com:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://tauri.localhost", "http://tauri.localhost"),
        ("Capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost/", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://-", "app://-"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("vscode-webview://0f3a", "vscode-webview://0f3a"),
        ("safari-web-extension://4D2F0C1B-1A2B-4C3D-8E9F-000000000000",) * 2,
        (EXTENSION, EXTENSION),
        (MOZ, MOZ),
        ("https://*.Example.app", "https://pr-7.example.app"),
        ("https://*.example.app:443", "https://pr-7.example.app"),
        ("https://*.example.app:8443", "https://pr-7.example.app:8443"),
        ("https://daybook-*-ann.vercel.app", "https://daybook-git-main-ann.vercel.app"),
        ("http://*.example.com", "http://a.example.com"),
        ("*", "https://anything.example"),
    ],
)
def test_each_pattern_allows_the_origins_that_browsers_send(written: str, sent: str) -> None:
    assert sent in Origins([parse(written)])
    assert sent in Origins(["https://other.example", parse("https://*.other.example"), parse(written)])


@pytest.mark.parametrize(
    "sent",
    [
        "https://example.app",
        "https://a.b.example.app",
        "https://.example.app",
        "https://a.example.app.",
        "https://a.example.app:8443",
        "http://a.example.app",
        "https://A.example.app",
        "https://a.example.appx",
        "https://a.examplexapp",
        "https://user@a.example.app",
        "https://a@b.example.app",
        "https://evil.com/.example.app",
        "https://evil.com#.example.app",
        "https://evil.com?.example.app",
        "https://evil.com:80.example.app",
        "https://a.example.app/",
        "https://a.example.app\n",
        "https://\u0661.example.app",
        "https://*.example.app",
        "https://evil.com, https://a.example.app",
        "null",
        "",
    ],
)
def test_a_star_matches_one_label_and_no_more(sent: str) -> None:
    assert sent not in Origins([parse("https://*.example.app")])


def test_an_origin_is_compared_whole() -> None:
    origins = Origins([parse("https://app.example.com"), parse("capacitor://localhost"), parse(EXTENSION)])
    for sent in ("https://app.example.com.", "https://xapp.example.com", "capacitor://localhost:1", "capacitor://x"):
        assert sent not in origins
    assert "chrome-extension://" + "b" * 32 not in origins


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("null", "null"),
        ("NULL", "null"),
        ("file://", "send null"),
        ("file:///tmp/x.html", "send null"),
        ("https://*", "origins such as"),
        ("https://*/", "origins such as"),
        ("https://*.com", "names that anybody can have"),
        ("https://daybook-*.com", "names that anybody can have"),
        ("https://*.localhost", "names that anybody can have"),
        ("https://*.*.example.com", "origins such as"),
        ("https://a.*.example.com", "origins such as"),
        ("https://app.example.*", "origins such as"),
        ("https://**.example.com", "origins such as"),
        ("https://*example.com", "names that anybody can have"),
        ("https://*.example.com:*", "origins such as"),
        ("http://localhost:*", "origins such as"),
        ("*://app.example.com", "origins such as"),
        ("https://ann@*.example.com", "origins such as"),
        ("https://*.example.com/tasks", "origins such as"),
        ("https://*.example..com", "origins such as"),
        ("https://*.example.com.", "origins such as"),
        ("https://*.0.0.1", "origins such as"),
        ("chrome-extension://*", "origins such as"),
        ("capacitor://*.example.com", "origins such as"),
        ("https://", "origins such as"),
        ("capacitor://", "origins such as"),
        ("capacitor:localhost", "origins such as"),
        ("capacitor://localhost/index.html", "origins such as"),
        ("capacitor://ann@localhost", "origins such as"),
        ("localhost:3000", "origins such as"),
        ("app.example.com", "origins such as"),
        ("wss://app.example.com", "origins such as"),
        ("javascript://x", "origins such as"),
        ("tauri://localhost:99999", "origins such as"),
        ("https://*.example.com:99999", "origins such as"),
        ("https://app.example.com/tasks", "origins such as"),
        ("https://app.example.com?x", "origins such as"),
        ("https://app.example.com#x", "origins such as"),
        ("https://hunter2@app.example.com", "origins such as"),
    ],
)
def test_an_impossible_origin_is_refused_with_the_reason(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse(written)
    assert "hunter2" not in str(refused.value)
