"""The default task: every claim of its docstring, by counting in the rendered text."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chisquare

from tasks.niah import NiahMultikey
from vorn.records import BadInput

ROOT = Path(__file__).parents[1]
NEEDLE = re.compile(r"One of the special magic numbers for (\S+) is: (\d+)\.")


def count_words(prompt: str, prefix: str) -> int:
    return len((prompt + prefix).split())


def task(**changes: Any) -> NiahMultikey:
    settings: dict[str, Any] = {
        "name": "niah_multikey",
        "grade": "ruler_all@1",
        "max_new_tokens": 12,
        "context_tokens": 400,
        "keys": 6,
        "digits": 7,
        "fixtures": 20,
        "seed": 0,
        "count_tokens": count_words,
    }
    return NiahMultikey(**(settings | changes))


def test_the_asked_key_has_one_value_and_it_is_the_evidence() -> None:
    for fixture in islice(task(), 20):
        found = dict(NEEDLE.findall(fixture.prompt))
        assert len(found) == 6
        asked = re.search(r"special magic number for (\S+) mentioned in the provided text\?$", fixture.prompt)
        assert asked is not None
        assert fixture.answers == (found[asked[1]],)
        ((start, end),) = fixture.evidence
        assert fixture.prompt[start:end] == f"One of the special magic numbers for {asked[1]} is: {found[asked[1]]}."
        assert fixture.prompt[fixture.question_start :].startswith("\nWhat is the special magic number")
        assert fixture.answer_prefix == f" The special magic number for {asked[1]} mentioned in the provided text is"
        assert fixture.prompt.count(fixture.answers[0]) == 1


def test_prompts_are_as_long_as_fits() -> None:
    for fixture in islice(task(context_tokens=300), 20):
        tokens = count_words(fixture.prompt, fixture.answer_prefix)
        assert 300 - 17 < tokens <= 300  # no sentence has more than 16 words


def test_a_prompt_can_have_a_sentence_for_every_four_tokens() -> None:
    """With a tokenizer for which everything fits, all the sentences that are ever made stand in the prompt."""
    (fixture,) = islice(task(count_tokens=lambda prompt, prefix: 1), 1)
    sentences = re.findall(r"[.?!](?=\s|$)", fixture.prompt[: fixture.question_start])
    assert len(sentences) == 400 // 4 + 3 + 6  # introduction, needles


def test_keys_and_values_are_kept_apart_from_training() -> None:
    texts = [text for fixture in islice(task(), 20) for pair in NEEDLE.findall(fixture.prompt) for text in pair]
    assert len(texts) == 240
    assert all(zlib.crc32(text.encode()) % 8 == 0 for text in texts)
    assert all(len(text) == 7 for text in texts if text.isdigit())


def test_depth_of_the_asked_needle_is_uniform() -> None:
    quarters = [0, 0, 0, 0]
    for fixture in islice(task(context_tokens=500, keys=2), 200):
        before = len(re.findall(r"[.?!] ", fixture.prompt[fixture.prompt.index("\n") : fixture.evidence[0][0]]))
        after = len(re.findall(r"[.?!] ", fixture.prompt[fixture.evidence[0][1] : fixture.question_start]))
        quarters[min(3, 4 * before // (before + after + 1))] += 1
    assert chisquare(quarters).pvalue > 0.01


def test_a_fixture_depends_on_seed_and_number_alone() -> None:
    assert list(islice(task(fixtures=5), 5)) == list(islice(task(fixtures=20), 5))
    assert next(iter(task(seed=1))) != next(iter(task(seed=0)))
    assert len({fixture.fixture_id for fixture in islice(task(), 20)}) == 20


def test_fixtures_are_the_same_bytes_in_every_process() -> None:
    code = (
        "from tests.test_niah import task; import hashlib; "
        "print(hashlib.sha256(next(iter(task())).prompt.encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {"ca385519a167acd405477c09d22b8ed9eda576c0086aa9557ea68ba891518c0c\n"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": 0}, r"task.keys=0: legal values are whole numbers from 1"),
        ({"keys": 2.5}, r"task.keys=2.5: legal values are whole numbers"),
        ({"digits": 2}, r"task.digits=2: legal values are whole numbers from 5"),
        ({"fixtures": 0}, r"task.fixtures=0"),
        ({"context_tokens": 50}, r"task.context_tokens=50 cannot hold 6 needles and the question; raise it to >= "),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        next(iter(task(**changes)))


def test_the_pocket_tokenizer_counts_about_as_many_tokens_as_asked_for(pocket_tokenizer: Any) -> None:
    def count(prompt: str, prefix: str) -> int:
        return len(pocket_tokenizer(prompt + prefix).input_ids)

    lengths = [count(f.prompt, f.answer_prefix) for f in islice(task(context_tokens=1000, count_tokens=count), 5)]
    assert all(980 <= length <= 1000 for length in lengths)
