"""Views: what of a fixture's prompt each cell kept, recorded beside the ledger for the first fixtures. Pure Python.

A `.views` file holds JSON lines of one process, each with the cells that it measured of one fixture; what is long is
compressed in it. Views are there to be looked at: no number of a report is made from them.
"""

from __future__ import annotations

import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from platform import node
from typing import Any

from vorn.appending import Appender
from vorn.records import BadInput, canonical_json

SUFFIX = ".views"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A fixture's prompt in tokens, and what of it each cell kept. T is the number of tokens.

    The reference, which keeps everything, is not in `kept`; nor is a cell that failed, or that was measured before its
    view could be recorded.
    """

    evaluation_id: str
    fixture_id: str
    fingerprint: str
    prompt: str  # as the model read it
    token_ends: tuple[int, ...]  # T character offsets into `prompt`, end exclusive; a token begins where the last ends
    evidence: tuple[int, ...]  # positions of the tokens that overlap the fixture's evidence, ascending
    question_start_token: int  # the first token that touches the question; 0 where nothing tells it from the context
    kept: Mapping[str, bytes]  # by cell_id: T shares of layers and KV heads, 0 in none of them, 255 in all

    def __post_init__(self) -> None:
        tokens = len(self.token_ends)
        for cell_id, shares in self.kept.items():
            if len(shares) != tokens:
                raise ValueError(f"kept[{cell_id!r}] has {len(shares)} values: legal is one per token, {tokens}")
        places = (*self.evidence, self.question_start_token)
        if not all(0 <= place <= tokens for place in places):
            raise ValueError(f"evidence or question_start_token lies outside of the {tokens} tokens: {places}")


class ViewWriter:
    """Appends views to a file of its own, created at the first one."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the evaluation; nothing is created before there is a view."""
        self._file = Appender(folder, SUFFIX, lambda: f"{node()}-{os.getpid()}", bytes)

    def append(self, view: View) -> None:
        """Write the view; it is on disk when this returns. Raises: OSError if it cannot be written."""
        self._file.append(encode(view))

    def close(self) -> None:
        """End the file; a later append would begin another."""
        self._file.close()


def read_views(folders: Iterable[Path]) -> tuple[View, ...]:
    """One view per fixture that these evaluation folders hold, with the cells of all its lines; a cell's first counts.

    A torn last line is what a killed writer leaves; its cells are measured again, and their view recorded with them.
    Raises: BadInput, naming file and line, for any other line that is no view of this version.
    """
    merged: dict[tuple[str, str, str], View] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            for view in _lines(path):
                key = view.evaluation_id, view.fixture_id, view.fingerprint
                before = merged.get(key, view)
                merged[key] = replace(before, kept={**before.kept, **view.kept, **before.kept})
    return tuple(merged.values())


def encode(view: View) -> bytes:
    """One JSON line, in ASCII."""
    steps = [end - start for start, end in pairwise((0, *view.token_ends))]
    fields = {
        "kind": "view",
        "evaluation_id": view.evaluation_id,
        "fixture_id": view.fixture_id,
        "fingerprint": view.fingerprint,
        "question_start_token": view.question_start_token,
        "evidence": list(view.evidence),
        "prompt": _pack(view.prompt.encode()),
        "token_steps": _pack(canonical_json(steps).encode()),
        "kept": {cell_id: _pack(shares) for cell_id, shares in view.kept.items()},
    }
    return json.dumps(fields).encode() + b"\n"


def _lines(path: Path) -> Iterator[View]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise _illegal(path, number, error) from error
            try:
                yield _view(value)
            except (LookupError, TypeError, ValueError, AttributeError, zlib.error) as error:
                raise _illegal(path, number, error) from error


def _illegal(path: Path, number: int, error: Exception) -> BadInput:
    return BadInput(
        f"{path}, line {number}: no view ({type(error).__name__}: {error}); legal are the lines that this version of "
        "vorn writes; delete the file: the ledger stays whole, and what its cells kept is no longer shown"
    )


def _view(value: Any) -> View:
    if value.pop("kind") != "view":
        raise ValueError("its kind is another one")
    steps = json.loads(_unpack(value.pop("token_steps")))
    value |= {
        "prompt": _unpack(value["prompt"]).decode(),
        "evidence": tuple(value["evidence"]),
        "kept": {cell_id: _unpack(shares) for cell_id, shares in value["kept"].items()},
    }
    return View(token_ends=tuple(accumulate(steps)), **value)


def _pack(data: bytes) -> str:
    return b64encode(zlib.compress(data, 9)).decode()


def _unpack(text: str) -> bytes:
    return zlib.decompress(b64decode(text, validate=True))
