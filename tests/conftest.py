"""What all tests share: where things lie, and how hard hypothesis tries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

IN_CI = os.environ.get("CI", "").lower() == "true"

# A loaded computer makes an example slow, not wrong: no deadline. In CI the same examples run every time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "default")


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
