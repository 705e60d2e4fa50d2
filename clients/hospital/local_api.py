"""The way into the running node's local API, as its own commands go it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from clients import config, desk, durable, locking
from zhifu.errors import CATALOGUE, Malformed, Refused

# The node is on this computer and speaks no TLS. To read every authority's certificate, as a client does unasked, takes
# longer than its request; this one trusts none at all.
_NO_AUTHORITY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def submit(
    folder: Path, content: bytes, consent: Path | None, *, direct: bool, timeout: float, code: str | None = None,
    narrow: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Hand a bill to the running node and wait for the end. Raises `Refused` (unavailable.*), and the node's reason."""
    given = desk.consent_document(desk.read_consent(consent)) if consent is not None else None
    less = dict(one.split("=", 1) for one in narrow if "=" in one)
    if len(less) != len(narrow):
        raise Malformed("usage.argument", "--narrow: expected SCHEMA.UNIT=LEVEL")
    route = "direct" if direct else "public"
    body = {"bill": content.decode(), "consent": given, "route": route, "code": code, "narrow": less}
    with connect(folder) as client:
        return wait(client, ask(client, "POST", "/settlements", json=body), timeout)


def look(folder: Path, settlement: str) -> dict[str, Any]:
    """A settlement as the running node shows it. Raises `Refused`."""
    with connect(folder) as client:
        return ask(client, "GET", f"/settlements/{settlement}")


def connect(folder: Path) -> httpx.Client:
    """A client of the node that runs in ``folder``. Raises `Refused` (unavailable.broker)."""
    port, token = place(folder)
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{port}"
    return httpx.Client(base_url=url, headers=headers, timeout=75.0, trust_env=False, verify=_NO_AUTHORITY)


def place(folder: Path) -> tuple[str, str]:
    """The port of the node that runs in ``folder``, and the token. Raises `Refused` (unavailable.broker)."""
    settings = config.load(folder, "hospital")
    ended = Refused("unavailable.broker", f"the node is not running: zhifu node serve {settings.directory}")
    # What listens on the port of one that died may be anybody's: it is sent neither the token nor a bill.
    if not locking.runs(folder):
        raise ended
    try:
        port, token = (durable.read(folder / name, 256).decode() for name in ("api.port", "api.token"))
    except Malformed as error:
        raise ended from error
    return port, token


def ask(client: httpx.Client, method: str, path: str, **more: Any) -> dict[str, Any]:
    """The answer as an object. Raises as `answered`."""
    return dict(answered(client, method, path, **more).json())


def answered(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """The answer, which is JSON. Raises `Refused` (unavailable.broker, or the node's own reason)."""
    try:
        answer = client.request(method, path, **more)
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Refused("unavailable.broker", "the node does not answer; where it has ended: zhifu node serve") from error
    if answer.is_error:
        raise Refused(found["reason"] if found.get("reason") in CATALOGUE else "internal", found.get("detail", ""))
    return answer


def wait(client: httpx.Client, found: dict[str, Any], timeout: float) -> dict[str, Any]:
    """A settlement once it ended, at most ``timeout`` s. Raises `Refused` (unavailable.deadline)."""
    until = time.monotonic() + timeout
    while found["state"] not in ("confirmed", "failed"):
        left = until - time.monotonic()
        if left <= 0:
            raise Refused("unavailable.deadline", f"settlement {found['settlement']} goes on: zhifu hospital show")
        found = ask(client, "GET", f"/settlements/{found['settlement']}", params={"wait": min(left, 30.0)})
    return found
