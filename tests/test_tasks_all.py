"""What holds for every option of the task group, found by glob: a new task is tested the day it lands."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from tests.composing import CONF, ROOT, task_config
from vorn.grading import GRADES, grade
from vorn.kv.units import Sentences, Words
from vorn.records import Fixture

NAMES = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
FROM_HUB = {"ruler_hub"}
TOKENS = 1500  # of the pocket tokenizer; enough for every shortest prompt


def count_words(prompt: str, prefix: str) -> int:
    return len((prompt + prefix).split())


def answer(grade: str) -> str:
    own = {"longbench_retrieval@1": "Paragraph 7", "longbench_retrieval_zh@1": "段落7", "longbench_count@1": "7"}
    return own.get(grade, "Ada Lovelace")


def write_inputs(folder: Path) -> None:
    """Small files of the forms that tasks read; their sentences are made up."""
    squad = [
        {
            "context": f"The code of city {n} is C{n}. It rains there.",
            "qas": [{"question": f"What is the code of city {n}?", "answers": [{"text": f"C{n}"}]}],
        }
        for n in range(8)
    ]
    (folder / "squad.json").write_text(json.dumps({"data": [{"paragraphs": squad}]}))
    rows = [
        {
            "question": f"Who built {n}?",
            "answer": f"Builder {n}",
            "context": [[f"Title {n}.{m}", ["It is."]] for m in range(10)],
        }
        for n in range(8)
    ]
    (folder / "hotpotqa.json").write_text(json.dumps(rows))
    lines = [
        {
            "id": f"line {n}",
            "context": f"It is {n}. ",
            "question": "What is it?",
            "answers": [str(n)],
            "evidence": [f"{n}"],
        }
        for n in range(8)
    ]
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (CONF / "task").glob("longbench_*.yaml"):
        task = task_config(path.stem)
        row = {"context": "It was told. " * 900, "input": "Who?", "answers": [answer(task.grade)], "_id": "x"}
        row["all_classes"] = ["Ada Lovelace", "Food"] if "class" in task.grade else None  # as published
        (folder / f"{task.subset}.jsonl").write_text((json.dumps(row) + "\n") * 4)


INPUTS: dict[str, Any] = {
    "essay": "invented",
    "source": {"qa_1": "squad.json", "qa_2": "hotpotqa.json"},
    "squad": "squad.json",
    "hotpotqa": "hotpotqa.json",
    "path": "lines.jsonl",
}


@functools.cache
def configured(name: str, folder: Path) -> Any:
    """The task's configuration with a short length and the files it asks for."""
    cfg = task_config(name)
    for key, value in INPUTS.items():
        if key in cfg.keys():  # noqa: SIM118, `in` is false for a value that must be given
            chosen = value.get(name, "") if isinstance(value, dict) else value
            cfg[key] = chosen if key == "essay" else str(folder / chosen)
    for key, value in (("sequence_tokens", TOKENS), ("lengths", [600, TOKENS])):
        if key in cfg:
            cfg[key] = value
    return cfg


def fixtures(name: str, folder: Path, counter: Any, count: int = 7) -> list[Fixture]:
    return list(islice(instantiate(configured(name, folder), count_tokens=counter), count))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module", params=["words", "pocket"])
def counter(request: pytest.FixtureRequest) -> Any:
    if request.param == "words":
        return count_words
    from vorn.models.prompts import Renderer

    return Renderer(request.getfixturevalue("pocket_tokenizer"), False).count_tokens


LOCAL = [name for name in NAMES if name not in FROM_HUB]


@pytest.mark.parametrize("name", LOCAL)
def test_fixtures_are_sound_at_any_tokenizer(name: str, inputs: Path, counter: Any) -> None:
    cfg, made = configured(name, inputs), fixtures(name, inputs, counter)
    assert len(made) >= 4
    assert cfg.grade in GRADES
    assert len({fixture.fixture_id for fixture in made}) == len(made)
    for fixture in made:
        assert 0 <= fixture.question_start < len(fixture.prompt)
        assert all(0 <= start < end <= len(fixture.prompt) for start, end in fixture.evidence)
        assert all(fixture.prompt[start:end].strip() for start, end in fixture.evidence)
        assert fixture.evidence or name.startswith("longbench")
        rule = fixture.grade or cfg.grade
        assert grade(rule, ", ".join(fixture.answers), fixture.answers, fixture.choices).outcome > 0.99
        assert grade(rule, "", fixture.answers, fixture.choices).outcome == 0.0
        new = fixture.max_new_tokens or cfg.max_new_tokens
        if "sequence_tokens" in cfg or "lengths" in cfg:
            assert counter(fixture.prompt, fixture.answer_prefix) + new <= TOKENS
        elif name == "niah_multikey":
            assert counter(fixture.prompt, fixture.answer_prefix) <= cfg.context_tokens
        json.dumps(dict(fixture.metadata))


@pytest.mark.parametrize("name", [name for name in LOCAL if not name.startswith(("jsonl", "qa_", "longbench"))])
def test_generated_prompts_use_the_length_they_may(name: str, inputs: Path, pocket_tokenizer: Any) -> None:
    """At most one more piece would have fitted: a line of RULER's noise has 30 tokens, a fact of UUIDs 70."""
    from vorn.models.prompts import Renderer

    count = Renderer(pocket_tokenizer, False).count_tokens
    cfg = configured(name, inputs)
    for fixture in fixtures(name, inputs, count):
        if fixture.metadata.get("kind") == "short" or fixture.task in ("qa_1", "qa_2"):
            continue
        new = fixture.max_new_tokens or cfg.max_new_tokens
        length = int(fixture.axes.across_at) if fixture.axes else TOKENS
        most = length - new if name != "niah_multikey" else cfg.context_tokens
        assert most - 80 < count(fixture.prompt, fixture.answer_prefix) <= most, fixture.fixture_id


def fingerprint(folder: Path) -> str:
    """One hash of the first fixtures of every task."""
    text = repr([fixtures(name, folder, count_words, 3) for name in LOCAL])
    return hashlib.sha256(text.encode()).hexdigest()


def test_fixtures_are_the_same_bytes_in_every_process(inputs: Path) -> None:
    code = (
        "from pathlib import Path; from tests.test_tasks_all import fingerprint; "
        f"print(fingerprint(Path({str(inputs)!r})))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    }
    assert seen == {fingerprint(inputs)}


@pytest.mark.parametrize("name", [name for name in LOCAL if "seed" in task_config(name)])
def test_the_seed_changes_the_fixtures_and_a_longer_run_begins_alike(name: str, inputs: Path) -> None:
    cfg = configured(name, inputs).copy()
    cfg.fixtures = 3
    assert list(islice(instantiate(cfg, count_tokens=count_words), 2)) == fixtures(name, inputs, count_words, 2)
    if name == "ruler":
        return  # its members take the seed from the whole configuration
    cfg.seed = 1
    other = list(islice(instantiate(cfg, count_tokens=count_words), 2))
    assert [one.fixture_id for one in other] != [one.fixture_id for one in fixtures(name, inputs, count_words, 2)]
    if name not in ("qa_1", "qa_2"):
        assert [one.answers for one in other] != [one.answers for one in fixtures(name, inputs, count_words, 2)]


@pytest.mark.parametrize("name", ["niah_single_1", "niah_grid", "edges", "shared_context", "hops"])
def test_evidence_stands_in_whole_sentences(name: str, inputs: Path) -> None:
    """Units drop sentences whole: a needle is one, so that it is kept or lost as a whole."""
    for fixture in fixtures(name, inputs, count_words, 12):
        words = [(i, i + len(word)) for i, word in _words(fixture.prompt)]
        units = Sentences(split="rules")(fixture.prompt, words)
        assert len(units) == len(Words()(fixture.prompt, words))
        for start, end in fixture.evidence:
            inside = {unit for unit, (a, b) in zip(units, words, strict=True) if start < b and a < end}
            assert len(inside) == 1


def _words(text: str) -> list[tuple[int, str]]:
    found, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        found.append((at, word))
        at += len(word)
    return found
