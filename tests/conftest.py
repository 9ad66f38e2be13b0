from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=4, help="processes that tests/test_faults.py kills")


@pytest.fixture(scope="session")
def pocket_tokenizer() -> Any:
    """The pocket models' tokenizer, trained anew."""
    from vorn.models.pocket.tokenizer import build

    return build()


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory, pocket_tokenizer: Any) -> Path:
    """A folder with an untrained pocket Llama and its tokenizer, as save_pretrained writes it."""
    from vorn.models.pocket.families import llama

    folder = tmp_path_factory.mktemp("checkpoint")
    llama(pocket_tokenizer, seed=0).save_pretrained(folder)
    pocket_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def datasets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, with its cache in a folder of the test's."""
    library = pytest.importorskip("datasets", reason="needs the extra hub")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    library.disable_progress_bars()
    return library
