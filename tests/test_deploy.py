"""What is deployed: files that parse, options that exist, metrics that are told, alarms that have a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker import home
from broker.operators import key_of
from broker.parser import parser
from tests.conftest import absent
from tests.house import run

FOLDER = "deploy"
TOOLS = Path(__file__).parent.parent / ".ci" / "tools"
METRIC = re.compile(r"\b(?:zhifu_(?:broker|node)|process)_[a-z_]+\b")
SUFFIXES = ("_bucket", "_sum", "_count", "_total", "")
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateDevices": "yes",
    "MemoryDenyWriteExecute": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "LimitCORE": "0",
}


@pytest.fixture(scope="session")
def deploy(repo_root: Path) -> Path:
    return repo_root / FOLDER


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def serves(words: list[str]) -> None:
    """The command line is one that the program takes; `SystemExit` otherwise."""
    if words[0] == "broker":
        parser().parse_args([word.replace("${STATE_DIRECTORY}", "/broker") for word in words[1:]])
        return
    part, command = words[:2]
    said = run(part, command, "--help").ok().out
    for word in words[2:]:
        if word.startswith("--"):
            assert word.split("=")[0] in said, word


# Compose


def test_compose_has_what_a_house_needs_and_is_hardened(deploy: Path) -> None:
    found = loaded(deploy / "compose.yaml")
    services = found["services"]
    assert set(services) == {
        "postgres", "first-start", "broker-1", "broker-2", "operator", "hospital", "public-payer", "insurer",
    }  # fmt: skip
    volumes = {one.split(":")[0] for service in services.values() for one in service.get("volumes", ())}
    assert volumes == set(found["volumes"])
    assert {one for service in services.values() for one in service.get("networks", ())} == set(found["networks"])
    for name, service in services.items():
        if name == "postgres":
            continue
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name not in ("first-start", "operator"):
            serves(service["command"])
            assert "9464" in " ".join(service["command"])
    # Both brokers read the pseudonym keys from one folder, and each its own of everything else.
    one, other = (dict(reversed(v.split(":")) for v in services[name]["volumes"]) for name in ("broker-1", "broker-2"))
    assert one["/broker/pseudonym"] == other["/broker/pseudonym"] == "pseudonym"
    assert one["/broker"] != other["/broker"]
    assert "brokers" not in services["hospital"]["networks"]
    # What the operators sign with is in nobody's reach but theirs.
    holders = {name for name, one in services.items() if any("operators:" in v for v in one.get("volumes", ()))}
    assert holders == {"first-start", "operator"}


def test_the_image_runs_as_nobody_special(deploy: Path, repo_root: Path) -> None:
    lines = (deploy / "Dockerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    copied = [line.split() for line in lines if line.startswith("COPY") and "--from" not in line]
    for words in copied:
        for name in [word for word in words[1:-1] if not word.startswith("--")]:
            assert (repo_root / name).exists(), name


def test_no_secret_of_a_house_goes_into_a_commit_or_an_image(deploy: Path, repo_root: Path) -> None:
    secrets = [entry["file"] for entry in loaded(deploy / "compose.yaml")["secrets"].values()]
    assert sorted(secrets) == ["pgpass", "postgres.password"]
    ignored = (repo_root / ".gitignore").read_text("utf-8").splitlines()
    assert {f"/{FOLDER}/{name}" for name in secrets} <= set(ignored)
    # Nothing but what is named goes to whoever builds.
    everything, *named = [
        line for line in (repo_root / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    assert everything == "*"
    assert {line for line in named if "secret" in line or "password" in line or "pgpass" in line} == set()
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", (deploy / "Dockerfile").read_text("utf-8"), re.M)
    assert {f"!{name}" for line in copied for name in line.split()} == {one for one in named if one.startswith("!")}


def test_the_first_start_makes_folders_of_one_log(deploy: Path, tmp_path: Path, repo_root: Path) -> None:
    """Twice, since a container starts again: the keys stay."""
    folders, operators = [tmp_path / "one", tmp_path / "two"], tmp_path / "operators"
    for folder in (*folders, operators):
        folder.mkdir(mode=0o700)
    store = "postgresql://zhifu@postgres:5432/zhifu"
    path = f"{repo_root / '.venv' / 'bin'}:/usr/bin:/bin"
    command = ["sh", str(deploy / "compose" / "first-start.sh"), "log.example/zhifu", store]
    command += map(str, (operators, *folders))
    keys = []
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True, env={"PATH": path})
        opened = [home.open_home(folder) for folder in folders]
        assert {(one.origin, one.store, one.vkey.encode()) for one in opened} == {
            ("log.example/zhifu", store, opened[0].vkey.encode())
        }
        assert opened[0].gate_keys.keys() == opened[1].gate_keys.keys()
        assert opened[0].read("tls.crt") == opened[1].read("tls.crt")
        kept = {bytes(key_of(operators / name).verify_key) for name in ("a.key", "b.key")}
        assert [set(one.operators) for one in opened] == [kept, kept]
        keys.append((opened[0].vkey.encode(), kept))
    assert keys[0] == keys[1]
    assert not [file for folder in (*folders, operators) for file in folder.rglob("*") if file.stat().st_mode & 0o077]


# systemd


def units(deploy: Path) -> Iterator[tuple[Path, list[tuple[str, str]]]]:
    for path in sorted((deploy / "systemd").glob("*.service")):
        lines = [line for line in path.read_text("utf-8").splitlines() if "=" in line and not line.startswith("#")]
        yield path, [(line.split("=", 1)[0], line.split("=", 1)[1]) for line in lines]


def test_units_are_hardened_and_run_commands_that_exist(deploy: Path) -> None:
    found = dict(units(deploy))
    assert {path.name for path in found} == {"zhifu-broker.service", "zhifu-node@.service", "zhifu-backup.service"}
    for settings in found.values():
        assert dict(settings).items() >= HARDENED.items()
        command = dict(settings)["ExecStart"].replace("$ZHIFU_NODE_OPTIONS", "")
        words = command.replace("'", "").replace('"', "").split("/zhifu ")[1].split()
        serves([word for word in words if not word.startswith("$(")][: 5 if "backup" in words else None])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_thinks_so_too(deploy: Path, tmp_path: Path) -> None:
    for path, _ in units(deploy):
        # Its program is not installed here; everything else is asked of systemd itself.
        copy = tmp_path / path.name
        copy.write_text(re.sub(r"=/opt/zhifu/bin/zhifu ", "=/bin/true ", path.read_text("utf-8")), "utf-8")
        verified = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
        assert path.name not in verified.stderr, verified.stderr
        secure = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(copy)]
        assert subprocess.run(secure, capture_output=True).returncode == 0, path.name


# Kubernetes


def test_every_value_of_the_chart_is_there_and_used(deploy: Path) -> None:
    chart = deploy / "helm" / "zhifu"
    values = loaded(chart / "values.yaml")
    text = "\n".join(path.read_text("utf-8") for path in (chart / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    for name in used:
        value = values
        for part in name.split("."):
            assert part in value, name
            value = value[part]
    assert {name.split(".")[0] for name in used} == set(values)
    assert loaded(chart / "Chart.yaml")["appVersion"] == "0.1.0"
    options = re.findall(r"^ +- (--[a-z-]+)", text, re.MULTILINE)
    known = parser().parse_args(["serve", "x"])
    for option in options:
        assert hasattr(known, option.removeprefix("--").replace("-", "_")), option


def test_the_chart_renders_to_what_kubernetes_takes(deploy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (TOOLS / "no-charts").exists():
        pytest.skip("Helm has no wheel for this machine")
    if not (TOOLS / "charts").is_dir():
        absent("Helm with Kubernetes' schemas")
    monkeypatch.setattr(sys, "path", [*sys.path, str(TOOLS / "charts")])
    helm, validate = import_module("helm_python"), import_module("kubernetes_validate")
    chart = helm.Chart.load(str(deploy / "helm" / "zhifu"))
    every = {"maxUnwitnessedSeconds": 600, "traceEndpoint": "http://otel:4318", "nodeSelector": {"a": "b"}}
    for values in ({}, every, {"database": {"passwordSecret": ""}, "monitoringNamespace": None}):
        rendered = chart.render(values, name="zhifu", namespace="zhifu")
        manifests = [text for name, text in rendered.items() if name.endswith(".yaml")]
        documents = [one for text in manifests for one in yaml.safe_load_all(text)]
        assert len(documents) == 6
        for one in documents:
            validate.validate(one, "1.31", strict=True)
    assert not helm.lint(str(deploy / "helm" / "zhifu"))["errors"]


# Monitoring


def mentioned(deploy: Path) -> dict[str, set[str]]:
    """Names of metrics in the dashboard's queries and in the alarms' expressions."""
    dashboard = json.loads((deploy / "monitoring" / "grafana-dashboard.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alarms = [rule["expr"] for rule in rules(deploy)]
    return {name: set(METRIC.findall(" ".join(texts))) for name, texts in (("panels", queries), ("alarms", alarms))}


def rules(deploy: Path) -> list[dict[str, Any]]:
    return [rule for group in loaded(deploy / "monitoring" / "alerts.yaml")["groups"] for rule in group["rules"]]


def written(repo_root: Path) -> set[str]:
    """Every metric that the code names; `tests/test_operating.py` finds the same at running processes."""
    found = {"process_cpu_seconds", "process_resident_memory_bytes"}
    for path, prefix in (("broker/metrics.py", "zhifu_broker_"), ("clients/monitoring.py", "zhifu_node_")):
        source = (repo_root / path).read_text("utf-8")
        found |= {prefix + name for name in re.findall(r'PREFIX \+ "([a-z_]+)"', source)}
        found |= {prefix + name for name in re.findall(r'_(?:counter|gauge|histogram)\(\s*"([a-z_]+)"', source)}
    return found


def test_every_metric_that_is_shown_or_watched_exists(deploy: Path, repo_root: Path) -> None:
    known = written(repo_root)
    for where, names in mentioned(deploy).items():
        assert len(names) > 10, where
        unknown = {name for name in names if not any(name.removesuffix(end) in known for end in SUFFIXES)}
        assert unknown == set(), where


def test_every_alarm_has_its_page(deploy: Path, repo_root: Path) -> None:
    runbook = (repo_root / "docs" / "runbook.md").read_text("utf-8")
    anchors = {title.lower() for title in re.findall(r"^### (\w+)$", runbook, re.MULTILINE)}
    anchors |= set(re.findall(r'<a id="([a-z-]+)">', runbook))
    found = rules(deploy)
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        page, anchor = rule["annotations"]["runbook"].split("#")
        assert page == "docs/runbook.md"
        assert anchor in anchors, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_prometheus_thinks_so_too(deploy: Path) -> None:
    if shutil.which("promtool") is None:
        absent("promtool")
    checked = subprocess.run(
        ["promtool", "check", "config", str(deploy / "monitoring" / "prometheus.yaml")], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_sizing_page_prints_what_it_says(repo_root: Path) -> None:
    text = (repo_root / "docs" / "sizing.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (said,) = re.findall(r"It prints:\n\n```\n(.*?)```", text, re.DOTALL)
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed == said


@pytest.mark.parametrize("name", ["docs/runbook.md", "docs/sizing.md", "deploy/README.md"])
def test_pages_name_commands_and_places_that_exist(repo_root: Path, name: str) -> None:
    text = (repo_root / name).read_text("utf-8")
    for part, command in set(re.findall(r"\bzhifu (broker|node|audit|policy|registrar|pseudonym) ([a-z-]+)", text)):
        if part in ("broker", "pseudonym"):
            words = [command] if part == "broker" else [f"pseudonym-{command}"]
            with pytest.raises(SystemExit) as ended:
                parser().parse_args([*words, "--help"])
            assert ended.value.code == 0, (part, command)
        else:
            assert run(part, command, "--help").code == 0, (part, command)
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((repo_root / name).parent / target).exists(), target
