"""Reading W&B's offline files back, for tests: the framing of LevelDB's log around protobuf records."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The records of one `.wandb` file, in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # too little for a header: the block ends in zeros
            place += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        body = data[place + HEADER : place + HEADER + length]
        assert checksum == zlib.crc32(bytes([kind]) + body)
        place += HEADER + length
        parts += body
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def whole(path: Path) -> list[Any]:
    """The records of a run that has ended: W&B's own process writes the last of them a moment later."""
    for _ in range(200):
        try:
            found = list(records(path))
            if found and found[-1].WhichOneof("record_type") == "exit":
                return found
        except (AssertionError, struct.error):
            pass  # a block that is being written
        sleep(0.05)
    raise AssertionError(f"{path} does not end")


class OfflineRun:
    """What one offline run holds."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wandb")
        self.folder = folder
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.artifacts: dict[str, list[str]] = {}
        for record in whole(path):
            match record.WhichOneof("record_type"):
                case "run":
                    self.id, self.group, self.name = record.run.run_id, record.run.run_group, record.run.display_name
                    self._update(self.config, record.run.config.update)
                case "config":
                    self._update(self.config, record.config.update)
                case "summary":
                    self._update(self.summary, record.summary.update)
                case "artifact":
                    names = [entry.path for entry in record.artifact.manifest.contents]
                    self.artifacts[f"{record.artifact.type}:{record.artifact.name}"] = sorted(names)

    def table(self, key: str) -> dict[str, Any]:
        """All rows that were logged under a key, with the columns."""
        found: dict[str, Any] = {"columns": [], "data": []}
        for path in sorted(
            (self.folder / "files" / "media" / "table").glob(f"{key}_*"), key=lambda one: int(one.name.split("_")[1])
        ):
            part = json.loads(path.read_text())
            found["columns"] = part["columns"]
            found["data"] += part["data"]
        return found

    @staticmethod
    def _update(values: dict[str, Any], items: Any) -> None:
        for item in items:
            values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
