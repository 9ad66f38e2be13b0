"""Any workload, from a file of JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from vorn.records import BadInput
from vorn.snapshots.paths import Path
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance, Request

_FIELDS = {"session": int, "segments": list, "generated": list, "measured": str, "matched": int}
_REQUIRED = ("session", "segments")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One request per line: {"session": 7, "segments": [["system", 900], ["q1", 40]], "generated": ["a1", 80],
    "measured": "q1", "matched": 896}.

    `session` 0 belongs to no conversation. Equal segment names stand for equal tokens and need equal lengths. Optional:
    `generated` (none), `measured` (the fixture's name; "" makes pressure only) and `matched` (tokens with known KV;
    what earlier requests have left if it is missing). A trace has one instance, whatever the seed.
    """

    path: str

    def instance(self, name: str, seed: int, placement: Placement) -> Instance:
        """The trace. Raises BadInput, naming file and line, for a line that is no request."""
        file = File(self.path)
        if not file.is_file():
            raise BadInput(f"workload.trace.path={self.path!r} is no file; give a file of JSON lines, one per request")
        lengths: dict[str, int] = {}
        lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        requests = [_request(line, f"{file}, line {number}", name, lengths) for number, line in lines if line.strip()]
        named = [request.measured for request in requests if request.measured]
        if not named or len(set(named)) < len(named):
            twice = next((one for one in named if named.count(one) > 1), None)
            what = f"measures {twice!r} twice" if twice else "measures nothing"
            raise BadInput(f"{file} {what}; legal are different names in `measured`, at least one")
        return Instance(name, requests)


def _request(line: str, where: str, name: str, lengths: dict[str, int]) -> Request:
    fields = _fields(line, where)
    path = Path()
    for segment in fields["segments"]:
        path = path.extended(*_segment(segment, where, lengths))
    if not path.tokens:
        raise BadInput(f"{where}: segments=[]; legal is at least one [name, tokens]")
    reply = fields.get("generated", ["", 0])
    generated = _segment(reply, where, lengths) if reply != ["", 0] else ("", 0)
    measured = fields.get("measured", "")
    return Request(fields["session"], path, generated, measured and f"{name}/{measured}", fields.get("matched"))


def _fields(line: str, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise BadInput(
            f"{where} is broken ({error}): legal is one JSON object per line; correct or remove it"
        ) from None
    if not isinstance(fields, dict):
        raise BadInput(f"{where}: {line[:60]!r} is no object; legal is one JSON object per line; correct or remove it")
    for key in {*fields, *_REQUIRED}:
        value = fields.get(key)
        if key not in _FIELDS or type(value) is not _FIELDS[key] or (isinstance(value, int) and value < 0):
            legal = ", ".join(f"{one} ({kind.__name__})" for one, kind in _FIELDS.items())
            raise BadInput(f"{where}: {key}={value!r} is not legal; the fields are {legal}, numbers >= 0")
    return fields


def _segment(value: object, where: str, lengths: dict[str, int]) -> tuple[str, int]:
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int):
        raise BadInput(f"{where}: {value!r} is no segment; legal is [name, tokens]")
    name, tokens = value
    if tokens < 1 or lengths.setdefault(name, tokens) != tokens:
        raise BadInput(
            f"{where}: segment {name!r} has {tokens} tokens"
            + (f" and had {lengths[name]} before; one name stands for one text" if tokens >= 1 else "; legal is >= 1")
        )
    return name, tokens
