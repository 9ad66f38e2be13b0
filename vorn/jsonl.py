"""Records as JSON lines and back: every field must be there with a value of its type, nothing else may be."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any, TypeVar

import msgspec

from vorn.records import Axes, BadInput, ContractWork, FixtureRun, Look, Manifest, Observation, Resume, to_dict

Record = Observation | Manifest | Look
Built = TypeVar("Built", bound=Record | Resume | ContractWork | FixtureRun | Axes)

_KINDS: Mapping[str, type[Record]] = {"manifest": Manifest, "observation": Observation, "look": Look}
_JSON_TYPES: Mapping[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    types.NoneType: (types.NoneType,),
    tuple: (list,),
    Mapping: (dict,),
    bool: (bool,),
    Resume: (Resume,),
    ContractWork: (ContractWork,),
    FixtureRun: (FixtureRun,),
    Axes: (Axes,),
}
_PARTS: Mapping[str, type[Resume] | type[ContractWork] | type[FixtureRun] | type[Axes]] = {
    "resume": Resume,
    "contract_work": ContractWork,
    "fixture_run": FixtureRun,
    "axes": Axes,
}
# Fields that ledgers of earlier versions lack, with the value that means that nothing was recorded.
_LATER: Mapping[str, Mapping[str, object]] = {
    "observation": {"subtask": "", "choices": [], "contract_work": None, "fixture_run": None, "axes": None},
    "manifest": {"fixtures": None},
}

_REMEDY = "read it with the version of vorn that wrote it, or use another ledger_dir"


def encode(records: Sequence[Record]) -> bytes:
    """One JSON object per line, in ASCII: any completion can be written and no character in it ends a line."""
    kinds = {cls: kind for kind, cls in _KINDS.items()}
    return b"".join(
        json.dumps({"kind": kinds[type(record)], **to_dict(record)}, allow_nan=False).encode() + b"\n"
        for record in records
    )


def observation(line: bytes) -> Observation | None:
    """The observation of a line as this version writes it; None for any other line, for `parse` and `decode` to judge.

    It accepts nothing that they refuse, and takes a quarter of their time; texts that many lines share are held once.
    """
    try:
        value = _PLAIN.decode(line)
        if type(value) is not dict or value.keys() != _OBSERVATION_KEYS or value["kind"] != "observation":
            return None
        for name, part in _PARTS.items():
            if value[name] is not None and value[name].keys() != _FIELDS[part].keys():
                return None
        for name in _SHARED:
            value[name] = intern(value[name])
        return msgspec.convert(value, Observation)
    except (msgspec.MsgspecError, TypeError, AttributeError, RecursionError):
        return None


def parse(line: bytes) -> object | None:
    """The JSON value of a line, or None where it is not JSON, as a line that was cut off, or nests without end."""
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None


def decode(value: object, where: str) -> Record:
    """The record of one parsed line.

    Args:
        value: the JSON value of the line.
        where: file and line, for the message.
    Raises: BadInput for an unknown kind, a missing or unknown field, a value of another type or out of range.
    """
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in _KINDS:
        raise BadInput(f"{where}: kind={kind!r} is no record; legal kinds are {', '.join(_KINDS)}; {_REMEDY}")
    fields = {name: item for name, item in value.items() if name != "kind"}
    fields = {**_LATER.get(kind, {}), **fields}
    for name, part in _PARTS.items():
        if kind == "observation" and isinstance(fields.get(name), dict):
            fields[name] = _build(part, fields[name], name, where)
    record: Record = _build(_KINDS[kind], fields, kind, where)
    return record


def _build(record: type[Built], fields: dict[str, Any], kind: str, where: str) -> Built:
    """The record with these fields; a list becomes a tuple."""
    legal = _FIELDS[record]
    if fields.keys() != legal.keys():
        name = min(fields.keys() ^ legal.keys())
        state = "unknown" if name in fields else "missing"
        raise BadInput(f"{where}: field {name!r} of this {kind} is {state}; legal are {', '.join(legal)}; {_REMEDY}")
    for name, item in fields.items():
        if type(item) not in legal[name]:
            names = " or ".join(sorted("null" if one is types.NoneType else one.__name__ for one in legal[name]))
            raise BadInput(f"{where}: field {name!r} of this {kind} is {item!r}; legal is {names}; {_REMEDY}")
        if type(item) is list:
            fields[name] = tuple(item)
    try:
        return record(**fields)
    except ValueError as error:
        raise BadInput(f"{where}: {error}; {_REMEDY}") from error


def _json_types(annotation: Any) -> frozenset[type]:
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return frozenset().union(*map(_json_types, typing.get_args(annotation)))
    return frozenset(_JSON_TYPES[origin or annotation])


_FIELDS: Mapping[type[Any], Mapping[str, frozenset[type]]] = {
    cls: {name: _json_types(hint) for name, hint in typing.get_type_hints(cls).items()}
    for cls in (*_KINDS.values(), *_PARTS.values())
}

_PLAIN = msgspec.json.Decoder()
_OBSERVATION_KEYS = _FIELDS[Observation].keys() | {"kind"}
_SHARED = [
    name
    for name, legal in _FIELDS[Observation].items()
    if legal == {str} and name not in ("completion", "answer_graded")  # which differ from line to line
]
