"""What all tests share: where things lie, and how hard hypothesis tries."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.postgres import Server

_LONGEST = (
    "test_wallet_web", "test_claims_web", "test_console", "test_demo", "test_core_system", "test_store",
    "test_auditor_store", "test_cashier", "test_brokers", "test_payers", "test_backup", "test_pseudonym_service",
    "test_policy_tool", "test_rotation", "test_blind_broker", "test_exchange_service", "test_node_notices",
    "test_consent_attacks", "test_fuzz", "test_crash", "test_self_claim", "test_visits",
)  # fmt: skip
IN_CI = os.environ.get("CI", "").lower() == "true"

# A loaded computer makes an example slow, not wrong: no deadline. In CI the same examples run every time. Half of
# hypothesis's own number: `make soak` throws far more at every decoder.
settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "default")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Each worker begins with another module, and finds those that others have compiled: that is slow."""
    report = yield
    if isinstance(collector, pytest.Dir) and isinstance(report.result, list):
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        first = len(report.result) * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) // workers
        report.result = report.result[first:] + report.result[:first]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one order for all workers, what takes longest first: a long module that is begun last would run alone."""

    def place(item: pytest.Item) -> tuple[int, bool, Path]:
        rank = _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST)
        return rank, not hasattr(getattr(item, "module", None), "open_house"), item.path

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays until the end: it is not looked through for garbage, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def absent(what: str) -> NoReturn:
    """Skip a test for want of something; in CI, where it is to be there, fail."""
    if IN_CI:
        pytest.fail(f"{what} is not here, although .ci/run sees to it")
    pytest.skip(f"{what} is not here; .ci/run sees to it")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The directory that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One PostgreSQL for all tests of a worker, each with databases of its own."""
    from tests.postgres import open_server

    with open_server() as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_data(repo_root: Path) -> Path:
    """The public reference data beside the repository; read only."""
    path = repo_root.parent / "shared" / "data"
    if not path.is_dir():
        absent(f"the reference data beside the repository ({path.relative_to(repo_root.parent)})")
    return path
