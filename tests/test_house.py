"""The rules of the house that no other tool holds: what the tree, the wheel and the catalogue of reasons contain."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from zhifu.errors import CATALOGUE

PACKAGES = ("proto/zhifu", "policies", "broker", "clients")
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "constants", "misc"}
MAX_LINES = 400
REFUSALS = {"Malformed", "NotAuthentic", "Refused"}
MACHINE_PATH = re.compile(r"(?<![\w.~<>{}/-])/(?:root|home|Users|work|tmp|mnt)/[\w.-]+")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|deb\.debian\.org|proxy\.golang\.org")


@pytest.fixture(scope="session")
def tracked(repo_root: Path) -> list[str]:
    """Paths of every file that git has or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repo_root, check=True, capture_output=True).stdout.decode().split("\0")
    return sorted({name for name in listed if name and (repo_root / name).is_file()})


@pytest.fixture(scope="session")
def project(repo_root: Path) -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((repo_root / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def in_packages(name: str) -> bool:
    return name.startswith(tuple(f"{package}/" for package in PACKAGES))


def written_modules(tracked: list[str]) -> list[str]:
    """Python modules of the packages that a person wrote."""
    return [name for name in tracked if in_packages(name) and name.endswith(".py") and not GENERATED.search(name)]


def test_wheel_holds_every_file_of_the_packages(repo_root: Path, tracked: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("zhifu-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {name.removeprefix("proto/") for name in tracked if in_packages(name)}
    assert expected
    assert expected - held == set()
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {
        package.split("/")[-1] for package in PACKAGES
    }


def test_lock_satisfies_the_project(repo_root: Path, project: dict[str, Any]) -> None:
    lines = (repo_root / "requirements.lock").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"requirements.lock lacks {requirement.name}: make lock"
        assert version in requirement.specifier, f"requirements.lock pins {requirement.name} {version}: make lock"


def test_changelog_names_this_version(repo_root: Path, project: dict[str, Any]) -> None:
    text = (repo_root / "CHANGELOG.md").read_text("utf-8")
    assert project["version"] in text or "Unreleased" in text


def test_no_file_names_a_machine_or_a_registry(repo_root: Path, tracked: list[str]) -> None:
    found = []
    for name in tracked:
        try:
            text = (repo_root / name).read_bytes().decode("utf-8")
        except UnicodeDecodeError:  # an image or a compiled schema
            continue
        for pattern in (MACHINE_PATH, REGISTRY_HOST):
            found += [f"{name}: {hit.group()}" for hit in pattern.finditer(text)]
    assert found == []


def test_modules_are_short(repo_root: Path, tracked: list[str]) -> None:
    lengths = {name: len((repo_root / name).read_bytes().splitlines()) for name in written_modules(tracked)}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_module_is_a_drawer(tracked: list[str]) -> None:
    python = [name for name in tracked if name.endswith((".py", ".pyi"))]
    assert [name for name in python if FORBIDDEN_NAMES & set(Path(name).with_suffix("").parts)] == []


def raised_reasons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each literal reason given to a refusal, also where it is one of two (``a if x else b``)."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in REFUSALS:
            given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "reason")]
            for value in given:
                branches = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
                for branch in branches:
                    if isinstance(branch, ast.Constant) and isinstance(branch.value, str):
                        yield branch.lineno, branch.value


def test_every_reason_raised_is_in_the_catalogue(repo_root: Path, tracked: list[str]) -> None:
    unknown = [
        f"{name}:{line}: {reason}"
        for name in written_modules(tracked)
        for line, reason in raised_reasons(ast.parse((repo_root / name).read_bytes()))
        if reason not in CATALOGUE
    ]
    assert unknown == []


def test_raised_reasons_are_found() -> None:
    source = "raise errors.Refused('a.b')\nMalformed(reason='c')\nNotAuthentic('d' if x else 'e', 'detail')\nOther('f')"
    assert sorted(raised_reasons(ast.parse(source))) == [(1, "a.b"), (2, "c"), (3, "d"), (3, "e")]


def test_catalogue_reasons_are_given(repo_root: Path, tracked: list[str]) -> None:
    given = {
        node.value
        for name in written_modules(tracked)
        if name != "proto/zhifu/errors.py"
        for node in ast.walk(ast.parse((repo_root / name).read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(set(CATALOGUE) - given) == []
