"""Hashes and validity of records; the oracles are hashlib on texts written by hand."""

from __future__ import annotations

import hashlib

import pytest
from factories import make_observation

from vorn.records import canonical_json, digest, fingerprint, to_dict


def test_digest_is_sha256_of_sorted_compact_json():
    text = '{"a":[1,2.5,null],"b":"é"}'
    assert canonical_json({"b": "é", "a": (1, 2.5, None)}) == text
    assert digest({"b": "é", "a": (1, 2.5, None)}) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digest({"b": "é", "a": (1, 2.5, None)}, length=64) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": value})


def test_fingerprint_covers_prompt_and_answers_and_keeps_them_apart():
    assert fingerprint("ask", ("1", "2")) == hashlib.sha256(b'["ask",["1","2"]]').hexdigest()[:16]
    others = [("ask ", ("1", "2")), ("ask", ("2", "1")), ("ask", ("12",)), ("ask1", ("2",))]
    others += [("ask", ("1", "2"), ("1",)), ("ask", ("1", "2"), ("1", "2", "3"))]
    assert len({fingerprint(*one) for one in [("ask", ("1", "2")), *others]}) == 7
    assert fingerprint("ask", ("1",), ("1", "2")) == hashlib.sha256(b'["ask",["1"],["1","2"]]').hexdigest()[:16]


@pytest.mark.parametrize(("outcome", "error"), [(None, None), (0.0, "boom")])
def test_observation_has_an_outcome_or_an_error(outcome, error):
    with pytest.raises(ValueError, match=r"fixture 'f0' in cell 'tova/token/64'.*exactly one of the two"):
        make_observation(outcome=outcome, error=error)


@pytest.mark.parametrize("outcome", [-0.01, 1.01, float("nan")])
def test_outcome_lies_between_0_and_1(outcome):
    with pytest.raises(ValueError, match=r"legal values lie in \[0, 1\]"):
        make_observation(outcome=outcome)


def test_to_dict_has_every_field_by_name():
    seen = make_observation(answers=("a", "b"))
    fields = to_dict(seen)
    assert fields["answers"] == ("a", "b")
    assert type(seen)(**fields) == seen
