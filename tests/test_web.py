"""What all pages share: the guard's refusals, the headers on everything, the two languages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from clients.web import words
from clients.web.door import Door, closed
from clients.web.entrance import LIFE_S, MOST, Entrance
from clients.web.guard import CSP, MAX_BODY
from clients.web.pages import Pages
from clients.web.serving import Place, serve
from zhifu.errors import Refused

HERE = "http://127.0.0.1:8000"


async def _endless() -> AsyncIterator[bytes]:
    yield b"endless"


@pytest.fixture
def client() -> httpx.AsyncClient:
    pages = Pages("clients.web")

    async def page(request: Request) -> Response:
        return pages.render(request, "base.html")

    async def change(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    app = pages.app([Route("/", page), Route("/change", change, methods=["POST"])])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE)


@pytest.mark.parametrize("path", ["/", "/static/base.css", "/nothing", "/static/../pages.py"])
async def test_every_answer_says_what_a_page_may_load(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["content-security-policy"] == CSP
    assert "unsafe" not in CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/base") else "no-store")


async def test_a_foreign_name_for_this_address_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/", headers={"host": "rebound.example:8000"})).status_code == 421
    assert (await client.get("/", headers={"host": "localhost:8000"})).status_code == 200
    assert (await client.get("/", headers={"host": "[::1"})).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": HERE},
    ],
)
async def test_another_site_changes_nothing(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post("/change", content=b"x", headers=headers)).status_code == 403


async def test_our_own_page_may(client: httpx.AsyncClient) -> None:
    own = {"origin": HERE, "sec-fetch-site": "same-origin"}
    assert (await client.post("/change", content=b"four", headers=own)).text == "4"
    assert (await client.post("/change", content=b"four")).text == "4"  # no browser: nobody's session


async def test_a_body_has_a_stated_and_moderate_length(client: httpx.AsyncClient) -> None:
    assert (await client.post("/change", content=_endless())).status_code == 413
    assert (await client.post("/change", content=b"", headers={"content-length": str(MAX_BODY + 1)})).status_code == 413


async def test_the_language_is_asked_for_then_kept(client: httpx.AsyncClient) -> None:
    assert '<html lang="zh-CN">' in (await client.get("/")).text
    assert '<html lang="en">' in (await client.get("/", headers={"accept-language": "en-GB,zh;q=0.5"})).text
    asked = await client.get("/?lang=en")
    assert '<html lang="en">' in asked.text
    assert "HttpOnly" in asked.headers["set-cookie"]
    assert '<html lang="en">' in (await client.get("/")).text
    assert 'href="/?a=%221&amp;lang=zh"' in (await client.get('/?a="1&lang=xx')).text


async def test_over_tls_the_cookie_that_opens_is_never_said_in_the_clear(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path)
    app = Door(PlainTextResponse("within"), "wallet", entrance, "/", closed("wallet"))
    for scheme, secure in (("http", False), ("https", True)):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            said = (await client.get(f"{scheme}://home:8730/?key={entrance.key}")).headers["set-cookie"]
        assert ("Secure" in said.split("; ")) is secure


def test_no_text_is_in_one_language_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "__init__.py").write_text("")
    (tmp_path / "half" / words.FILE).write_text('[refuse]\nzh = "不同意"\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="half: refuse"):
        words.load("half")


def test_a_session_ends_by_itself_and_is_of_one_folder(tmp_path: Path) -> None:
    now = [1_000_000.0]
    ours, theirs = Entrance(tmp_path, clock=lambda: now[0]), Entrance(tmp_path, "desk.key")
    token = ours.enter(ours.key)
    assert token is not None
    assert (ours.knows(token), theirs.knows(token), ours.knows(""), ours.enter("é")) == (True, False, False, None)
    assert ours.cookie("console") != theirs.cookie("console")
    now[0] += LIFE_S
    assert not ours.knows(token)


def test_of_too_many_sessions_the_oldest_goes(tmp_path: Path) -> None:
    now = iter(range(10_000))
    entrance = Entrance(tmp_path, clock=lambda: next(now))
    tokens = [entrance.enter(entrance.key) or "" for _ in range(MOST + 1)]
    assert [entrance.knows(one) for one in tokens] == [False] + [True] * MOST


def test_another_address_than_loopback_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        serve(PlainTextResponse("never"), Place(host="0.0.0.0"), Entrance(tmp_path))
    assert caught.value.reason == "usage.argument"
