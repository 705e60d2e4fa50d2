"""``zhifu doctor``: a house that is well, and each thing that can be wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients import config
from tests.house import House, Ran, open_house, operate, run, spawn
from zhifu import findings
from zhifu.errors import Exit

DAY_S = 86_400


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("doctor")) as opened:
        yield opened


@pytest.fixture
def copy(house: House, tmp_path: Path) -> Path:
    """The insurer's folder, beside the node that runs from the other one."""
    shutil.copytree(house.path / "insurer", tmp_path / "insurer")
    return tmp_path / "insurer"


def bad(ran: Ran) -> dict[str, tuple[str, str]]:
    """Of the checks that are not ok: level and what was found."""
    return {one["check"]: (one["level"], one["found"]) for one in ran.json["findings"] if one["level"] != "ok"}


def examined(folder: Path, **given: Any) -> Ran:
    """As a process of its own, since it uses an event loop and gRPC."""
    return spawn("doctor", folder, "--json", **given)


def test_a_house_that_is_well(house: House) -> None:
    ran = examined(house.path / "insurer").ok()
    checks = {one["check"] for one in ran.json["findings"]}
    wanted = {"modes", "keys", "certificate", "disk", "pins", "policy", "store", "queue", "witness", "broker", "clock"}
    assert checks >= wanted
    assert bad(ran) == {}
    assert ran.json["healthy"] is True
    ran = examined(house.path / "broker").ok()
    assert bad(ran) == {}
    checks = {one["check"] for one in ran.json["findings"]}
    assert checks >= {"modes", "keys", "certificate", "disk", "store", "witnesses", "queue", "serving"}
    told = spawn("doctor", house.path / "hospital").ok().out
    assert "ok    broker" in told


def test_what_is_wrong_with_files(copy: Path) -> None:
    (copy / "node.db").chmod(0o640)
    ran = examined(copy)
    assert (ran.code, bad(ran)) == (Exit.USAGE, {"modes": ("fail", "node.db can be read by others")})
    assert f"chmod 600 {copy / 'node.db'}" in ran.out
    (copy / "node.db").chmod(0o600)
    (copy / "tls.crt").write_bytes((copy / "ca.crt").read_bytes())
    ran = examined(copy)
    assert ran.code == Exit.INTEGRITY
    assert bad(ran)["certificate"] == ("fail", "tls.crt is for another key than keys/tls.key")
    # What it presents is not for its key, so that the broker cannot be asked.
    (copy / "keys" / "signing.key").unlink()
    ran = examined(copy)
    assert bad(ran)["keys"][0] == "fail"
    shutil.rmtree(copy)
    ran = examined(copy)
    assert (ran.code, ran.out) == (Exit.USAGE, "")


def test_what_is_wrong_with_beliefs(house: House, copy: Path) -> None:
    settings = config.load(copy)
    other = run("registrar", "init", copy.parent / "registrar").ok().out.split()[0]
    config.write(replace(settings, pins={}, registrar=bytes.fromhex(other)))
    found = bad(examined(copy))
    assert found["pins"][0] == "warn"
    assert found["policy"][0] == "fail"
    # Another broker's log key under the same name: never to be talked to.
    hospital = house.cast.ids["hospital"]
    wrong = {**settings.pins, hospital: replace(settings.pins[hospital], role="insurer")}
    config.write(replace(settings, pins=wrong))
    ran = examined(copy)
    assert ran.code == Exit.INTEGRITY
    assert "is enrolled as hospital" in bad(ran)["pins"][1]


def test_a_clock_that_is_off_and_a_certificate_near_its_end(copy: Path) -> None:
    """89 days later by this computer alone: one day is left of the certificate, and the clock is told."""
    ran = examined(copy, code=f"import time; real = time.time; time.time = lambda: real() + {int(89.5 * DAY_S)}")
    found = bad(ran)
    assert found["certificate"] == ("fail", "tls.crt ends in 12 hours")
    assert found["policy"][0] == "fail"
    ran = examined(copy, code="import time; real = time.time_ns; time.time_ns = lambda: real() - 3_600_000_000_000")
    assert (ran.code, bad(ran)["broker"][0]) == (Exit.UNAVAILABLE, "fail")
    assert "s behind the broker's" in bad(ran)["broker"][1]


def test_a_node_that_is_suspended_is_not_enrolled_anew(house: House, copy: Path) -> None:
    insurer = run("node", "card", copy).ok().json["id"]
    words = ("--reason", "test", "--operator", house.path / "operator-a.key")
    operate("suspend", house.path / "broker", insurer, *words)
    try:
        ran = examined(copy)
        found = next(one for one in ran.json["findings"] if one["check"] == "broker")
        assert found["level"] == "fail"
        assert "telephone" in found["remedy"]
    finally:
        operate("resume", house.path / "broker", insurer, *words)


def test_a_broker_that_is_gone(house: House, copy: Path) -> None:
    settings = config.load(copy)
    config.write(replace(settings, node_address="127.0.0.1:9"))
    ran = examined(copy)
    assert (ran.code, set(bad(ran))) == (Exit.UNAVAILABLE, {"broker"})
    house.end("broker")
    try:
        ran = examined(house.path / "broker")
        assert (ran.code, set(bad(ran))) == (Exit.UNAVAILABLE, {"serving"})
    finally:
        house.restart("broker")


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [
        (31, "ok", "31 days"),
        (30, "warn", "30 days"),
        (7, "warn", "7 days"),
        (1, "fail", "24 hours"),
        (-2, "fail", "2 days ago"),
    ],
)
def test_days_before_the_end(days: int, level: str, said: str) -> None:
    found = findings.expiry("certificate", "tls.crt", days * DAY_S, "renew it")
    assert found.level == level
    assert said in found.found
    assert ("this week" in found.remedy) == (days == 7)


def test_integrity_comes_before_everything() -> None:
    found = [findings.fail("x", reason, "", "") for reason in ("unavailable.store", "log.fork", "usage.file")]
    assert findings.exit_of(found) == Exit.INTEGRITY
    assert findings.exit_of(found[::2]) == Exit.UNAVAILABLE
    assert findings.exit_of([findings.warn("x", "", "")]) == Exit.OK
