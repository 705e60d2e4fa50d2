"""What all tests share: where things lie, and how hard hypothesis tries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

IN_CI = os.environ.get("CI", "").lower() == "true"

# A loaded computer makes an example slow, not wrong: no deadline. In CI the same examples run every time. Half of
# hypothesis's own number: `make soak` throws far more at every decoder.
settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that start processes come first: begun last, one of them would run alone while other workers idle."""
    items.sort(key=lambda item: not hasattr(getattr(item, "module", None), "open_house"))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The directory that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data(repo_root: Path) -> Path:
    """The public reference data beside the repository; read only. Skips where it is absent, but in CI fails."""
    path = repo_root.parent / "shared" / "data"
    if not path.is_dir():
        reason = f"the reference data is not beside the repository ({path.relative_to(repo_root.parent)})"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return path
