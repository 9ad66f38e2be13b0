"""JSON files as plain values, and typed reading of their fields; whatever is odd is refused by file and field path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vorn.records import BadInput

MAX_BYTES = 2**28  # the largest released artifact has 0.5 MB; a file is held in memory several times over
MAX_COUNT = 10**5  # fixtures of a row; exact tests of larger tables take minutes
MAX_NUMBER = 1e12
REMEDY = "repair the file or leave it out"


class RepeatedKey(dict[str, Any]):
    """An object in which a key stands more than once: which of the values counts is anybody's guess."""

    key: str


def load_json(path: Path) -> object:
    """The JSON value of a file; objects with a repeated key are `RepeatedKey`, NaN and Infinity floats.

    Raises: BadInput, naming what is wrong, for anything that is not one JSON text of at most `MAX_BYTES`.
    """
    try:
        if not path.is_file():
            raise BadInput("is no file; legal is a JSON file or a folder; name another path")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadInput(f"has {size} bytes; legal are at most {MAX_BYTES}; split the file or leave it out")
        return json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_object)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}; make it readable or leave it out") from error
    except RecursionError as error:
        raise BadInput(f"is nested too deeply to be read; {REMEDY}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"is not UTF-8 at byte {error.start}; legal is JSON in UTF-8; {REMEDY}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BadInput(f"is not JSON: {error.msg} at {place}; the file may be cut off; {REMEDY}") from error
    except ValueError as error:  # an integer with more digits than Python converts
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"holds a number that cannot be read: {error}; {REMEDY}") from error


def refuse(where: str, value: object, legal: str) -> BadInput:
    """The error for a value at the field path `where`."""
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:60]}..."
    return BadInput(f"{where or 'the file'}={shown}; legal is {legal}; {REMEDY}")


def child(where: str, key: str | int) -> str:
    """Field path of an item: `rows[3].hits`."""
    if isinstance(key, int):
        return f"{where}[{key}]"
    name = key if key.isidentifier() else f"[{key[:40]!r}]"
    return f"{where}.{name}" if where and not name.startswith("[") else f"{where}{name}"


def present(item: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of the keys that has a value other than null."""
    return next((key for key in keys if item.get(key) is not None), None)


def text(item: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
    """The string under the first of the keys that is there; "" if none is."""
    key = present(item, keys)
    if key is None:
        return ""
    if not isinstance(item[key], str):
        raise refuse(child(where, key), item[key], "a string")
    return str(item[key])


def number(item: Mapping[str, Any], keys: Sequence[str], where: str, high: float = MAX_NUMBER) -> float | None:
    """The number from 0 to `high` under the first of the keys that is there, or None."""
    key = present(item, keys)
    if key is None:
        return None
    value = item[key]
    if type(value) not in (int, float) or not 0 <= value <= high:
        raise refuse(child(where, key), value, f"a number from 0 to {high:g}")
    return float(value)


def count(item: Mapping[str, Any], keys: Sequence[str], where: str, high: int = MAX_COUNT) -> int | None:
    """The whole number from 0 to `high` under the first of the keys that is there, or None."""
    key = present(item, keys)
    return None if key is None else whole(item[key], child(where, key), high)


def whole(value: object, where: str, high: int = MAX_COUNT) -> int:
    """The value, if it is a whole number from 0 to `high`; true and 3.0 are none."""
    if type(value) is not int or not 0 <= value <= high:
        raise refuse(where, value, f"an integer from 0 to {high}")
    return value


def flag(item: Mapping[str, Any], key: str, where: str) -> bool | None:
    """The boolean under the key, or None."""
    value = item.get(key)
    if value is not None and not isinstance(value, bool):
        raise refuse(child(where, key), value, "true or false")
    return value


def table(value: object, where: str) -> tuple[int, int, int, int]:
    """A table [[a, b], [c, d]] of counts."""
    rows = value if isinstance(value, list) else []
    if [len(row) if isinstance(row, list) else -1 for row in rows] != [2, 2]:
        raise refuse(where, value, "[[a, b], [c, d]] with four integers")
    a, b, c, d = (whole(cell, child(child(where, i), j)) for i, row in enumerate(rows) for j, cell in enumerate(row))
    return a, b, c, d


def interval(item: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[float, float] | None:
    """The interval under the first of the keys that is there, written as [low, high] or {"low", "high"}; or None."""
    key = present(item, keys)
    if key is None:
        return None
    value, where = item[key], child(where, key)
    if isinstance(value, list) and len(value) == 2:
        value = dict(zip(("low", "high"), value, strict=True))
    if not isinstance(value, dict) or value.keys() != {"low", "high"}:
        raise refuse(where, value, "[low, high] or an object with low and high")
    ends = [number(value, [end], where, 1.0) for end in ("low", "high")]
    if ends[0] is None or ends[1] is None or ends[0] > ends[1]:
        raise refuse(where, item[key], "two numbers from 0 to 1, the lower first")
    return ends[0], ends[1]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeated = RepeatedKey(made)
    seen: set[str] = set()
    repeated.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeated
