"""Two readings of a ledger's line: the fast one accepts what the careful one does, with the same result, or nothing."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from factories import make_manifest, make_observation
from hypothesis import given
from hypothesis import strategies as st

from vorn.jsonl import decode, encode, observation, parse
from vorn.records import Axes, BadInput, ContractWork, FixtureRun, Look, Observation, Resume

WHOLE: dict[str, Any] = json.loads(encode([make_observation()]))
_TYPED = {"int": 1, "float": 1.0, "bool": True, "str": "a"}
PARTS = {
    name: {field.name: _TYPED.get(str(field.type)) for field in dataclasses.fields(part)}
    for name, part in (
        ("resume", Resume),
        ("contract_work", ContractWork),
        ("fixture_run", FixtureRun),
        ("axes", Axes),
    )
}
PARTS["axes"]["across"] = "another name than the first"
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.text()),
    st.just({}),
    *map(st.just, PARTS.values()),
)


def carefully(line: bytes) -> Observation | None:
    """By the standard library's parser and the field-by-field check; None for what that refuses."""
    try:
        record = decode(parse(line), "a line")
    except BadInput:
        return None
    return record if isinstance(record, Observation) else None


@given(st.sampled_from([*WHOLE, "more"]), VALUES)
def test_no_value_of_any_field_is_read_in_two_ways(name: str, value: object) -> None:
    line = json.dumps(WHOLE | {name: value}).encode()
    fast = observation(line)
    assert fast is None or fast == carefully(line)


@pytest.mark.parametrize("name", WHOLE)
def test_a_line_without_a_field_is_left_to_the_careful_reading(name: str) -> None:
    assert observation(json.dumps({key: value for key, value in WHOLE.items() if key != name}).encode()) is None


@pytest.mark.parametrize(("name", "part"), PARTS.items())
def test_a_part_is_read_as_it_was_written_or_left_to_the_careful_reading(name: str, part: dict[str, Any]) -> None:
    line = json.dumps(WHOLE | {name: part}).encode()
    assert observation(line) == carefully(line) is not None
    for damaged in (part | {"more": 1}, {key: part[key] for key in list(part)[1:]}):
        assert observation(json.dumps(WHOLE | {name: damaged}).encode()) is None


def test_what_this_version_writes_is_read_fast_and_its_repeated_texts_are_held_once() -> None:
    seen = [make_observation(), make_observation(outcome=None, error="broke", answers=("a", "é"), peak_bytes=3)]
    first, second = (observation(line) for line in encode(seen).splitlines(keepends=True))
    assert [first, second] == seen
    assert first is not None
    assert second is not None
    assert first.fingerprint is second.fingerprint
    assert isinstance(first.answers, tuple)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        encode([make_observation()])[:-9],
        b"[" * 100_000,
        encode([make_manifest()]),
        encode([Look(evaluation_id="e0", created="now", fixtures=1)]),
        json.dumps(WHOLE | {"resume": {"policy": "lru"}}).encode(),
        json.dumps(WHOLE | {"axes": {"down": "a", "down_at": 1, "across": "a", "across_at": 1}}).encode(),
        json.dumps(WHOLE | {"axes": {"down": "a", "down_at": 10**400, "across": "b", "across_at": 1}}).encode(),
        json.dumps(WHOLE | {"outcome": 2.0}).encode(),
        json.dumps(WHOLE | {"outcome": None}).encode(),
        json.dumps(WHOLE | {"error": "both"}).encode(),
        encode([make_observation(completion="\ud800")]),
    ],
)
def test_any_other_line_is_left_to_the_careful_reading(line: bytes) -> None:
    assert observation(line) is None
