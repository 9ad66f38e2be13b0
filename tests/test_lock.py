"""The CUDA image's lock against what the project asks for and what is tested together. Oracle: the files as text."""

from __future__ import annotations

import re
import tomllib

from composing import ROOT

LOCK = (ROOT / ".ci" / "cuda" / "requirements.lock").read_text()


def name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def pinned(text: str) -> dict[str, str]:
    return {name(one): version for one, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.M)}


def test_every_package_has_a_version_and_a_hash() -> None:
    entries = re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", LOCK, flags=re.M))
    assert len(entries) > 100
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", entry), entry[:80]


def test_it_holds_all_that_the_project_needs_in_the_versions_that_are_tested_together() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {name(one) for one in (*project["dependencies"], *extras["hub"], *extras["cluster"])}
    locked, tested = pinned(LOCK), pinned((ROOT / "constraints.txt").read_text())
    assert needed <= locked.keys()
    assert {one: version for one, version in locked.items() if tested.get(one, version) != version} == {}
    assert len(locked.keys() & tested.keys()) > 80
    assert {"triton", "nvidia-nccl-cu13"} <= locked.keys()


def test_the_image_installs_from_the_lock_alone() -> None:
    steps = re.findall(r"^RUN (.*)$", (ROOT / ".ci" / "cuda" / "Dockerfile").read_text(), re.M)
    installs = [step for step in steps if "pip install" in step]
    assert len(installs) == len(steps) == 2
    assert all("--no-deps" in step and "--no-build-isolation" in step for step in installs)
    assert "--require-hashes" in installs[0]
    assert "requirements.lock" in installs[0]
