"""Checkpoints that cannot be had from the Hub: one message each, in seconds, and the local cache when it is offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from composing import ROOT
from huggingface_hub.errors import GatedRepoError

from vorn.models import checkpoint as checkpoint_module
from vorn.models.checkpoint import find_checkpoint
from vorn.records import BadInput

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {"id": "nobody/nothing", "revision": None, "dtype": "auto", "trust_remote_code": False}


@contextmanager
def hub(status: int, code: str) -> Iterator[str]:
    """A Hub that answers everything alike, with the header by which its client tells errors apart."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "changes", "message"),
    [
        (401, "RepoNotFound", {}, r"the Hub knows no such model, or it is private; check model.id .*HF_TOKEN"),
        (404, "RepoNotFound", {"id": "org/typo"}, r"model.id='org/typo' cannot be loaded: the Hub knows no such model"),
        (404, "RevisionNotFound", {"revision": "v9"}, r"it has no such revision; check model.revision"),
        (403, "GatedRepo", {}, r"it is gated, and this account has no access; accept its conditions .*HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses(
    status: int, code: str, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(status, code) as address:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        with pytest.raises(BadInput, match=message):
            find_checkpoint(SETTINGS | changes, CPU)


def test_a_gated_file_behind_a_page_that_anyone_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        sha = COMMIT

    def read(source: str, **options: Any) -> None:
        assert options["revision"] == COMMIT  # all files come from the commit that was asked for first
        try:
            raise GatedRepoError.__new__(GatedRepoError)
        except GatedRepoError as error:
            raise OSError("You are trying to access a gated repo.") from error

    monkeypatch.setattr("vorn.models.hub.HfApi.model_info", lambda *_, **__: Info())
    monkeypatch.setattr(checkpoint_module.AutoConfig, "from_pretrained", read)
    with pytest.raises(BadInput, match=r"it is gated, and this account has no access"):
        find_checkpoint(SETTINGS, CPU)


def test_code_of_its_own_is_not_run_unasked(random_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "model"))
    text = (folder / "config.json").read_text()
    own = '"auto_map": {"AutoConfig": "own.Own"}, "model_type": "own"'
    (folder / "config.json").write_text(text.replace('"model_type": "llama"', own))
    (folder / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(BadInput, match=r"it brings code of its own; if you trust its authors"):
        find_checkpoint(SETTINGS | {"id": str(folder)}, CPU)


@pytest.fixture
def cached(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local cache with one downloaded checkpoint; the Hub is out of reach."""
    repository = tmp_path / "models--nobody--nothing"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return Path(shutil.copytree(random_checkpoint, repository / "snapshots" / COMMIT))


def load() -> Any:
    found = find_checkpoint(SETTINGS, CPU)
    return found, found.load(attn_implementation="sdpa", device=CPU, device_map=None, quantization=None)


def test_offline_the_cache_is_read_and_its_commit_is_the_identity(cached: Path) -> None:
    found, model = load()
    assert found.weights_digest == COMMIT
    assert model.config.model_type == "llama"


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_offline_with_half_a_download(cached: Path, file: str) -> None:
    (cached / file).unlink()
    with pytest.raises(BadInput, match=r"'nobody/nothing' cannot be loaded: the Hub cannot be reached .*not hold all"):
        load()


@pytest.mark.integration
def test_nothing_hangs_when_the_hub_never_answers(tmp_path: Path) -> None:
    """The whole command: a server that takes connections and stays silent, and an empty cache."""
    with create_server(("127.0.0.1", 0)) as silent:
        here = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = os.environ | {"HF_ENDPOINT": here, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, str(ROOT / "launch.py"), "model=llama31", "logger=none", f"hydra.run.dir={tmp_path}"]
        start = time.monotonic()
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    (message,) = done.stderr.strip().splitlines()
    assert "model.id='meta-llama/Llama-3.1-8B-Instruct' cannot be loaded: the Hub cannot be reached" in message
    assert "give model.id=DIR" in message
    assert "Traceback" not in done.stdout + done.stderr
    assert time.monotonic() - start < 90  # seconds, most of them imports; the Hub's own client alone would take 80
