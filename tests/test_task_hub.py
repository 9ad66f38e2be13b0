"""Data sets of a Hub that does not answer: one message in seconds, or the local cache."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from tasks import hub
from tests.test_hub import hub as answering_hub
from vorn import reach
from vorn.records import BadInput

pytestmark = pytest.mark.integration


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def closed() -> Iterator[str]:
    """Takes no connection."""
    with silent() as address:
        pass
    yield address


@pytest.mark.parametrize(("place", "reason"), [(silent, "Timeout"), (closed, "ConnectError")])
def test_no_answer_is_one_message_in_seconds(
    place: Any, reason: str, datasets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "TIMEOUT_S", 0.2)
    start = time.monotonic()
    with place() as address:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
        with pytest.raises(BadInput) as caught:
            hub.load_rows("nobody/nothing", "a", "validation")
    message = str(caught.value)
    assert message.startswith("task.source='nobody/nothing', config 'a', split 'validation' cannot be loaded: the Hub ")
    assert f"cannot be reached ({'Read' if reason == 'Timeout' else ''}{reason}" in message
    assert message.endswith("(hf download nobody/nothing --repo-type dataset --local-dir DIR) and give task.source=DIR")
    assert time.monotonic() - start < 5  # seconds; the library's own tries take 23 where a connection is refused
    assert datasets.config.HF_HUB_OFFLINE is False


def test_what_the_cache_holds_is_read(datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"index": 7}))
    card = ["---", "configs:", "- config_name: a", "  data_files:", "  - split: validation", "    path: a.jsonl", "---"]
    (tmp_path / "README.md").write_text("\n".join([*card, ""]))
    datasets.load_dataset(str(tmp_path), "a")
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    (cache / tmp_path.name).rename(cache / "nobody___nothing")
    for file in cache.rglob("*.arrow"):
        file.rename(file.with_name("nothing-validation.arrow"))
    with closed() as address:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
        assert list(hub.load_rows("nobody/nothing", "a", "validation")) == [{"index": 7}]


def test_offline_nobody_is_asked(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: pytest.fail("it was asked"))
    with pytest.raises(BadInput, match=r"cannot be reached \(HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set\)"):
        hub.load_rows("nobody/nothing", "a", "validation")
    assert datasets.config.HF_HUB_OFFLINE is True


@pytest.mark.parametrize(("status", "code"), [(404, "RepoNotFound"), (403, "GatedRepo"), (403, ""), (429, "")])
def test_a_refusal_is_an_answer(datasets: Any, monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    def refusing(*_: Any, **__: Any) -> None:
        raise ValueError("there is none")

    monkeypatch.setattr(datasets, "load_dataset", refusing)
    with answering_hub(status, code) as address:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
        with pytest.raises(BadInput, match=r"cannot be loaded \(there is none\); give a data set"):
            hub.load_rows("nobody/nothing", "a", "validation")
