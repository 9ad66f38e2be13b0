"""Fixtures from files: JSON lines, RULER from the Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.hub import RulerHub
from tasks.jsonl import JsonLines
from vorn.records import Axes, BadInput, Fixture

SPLIT = {"id": "a", "context": "The fox has 12. ", "question": "What has the fox?", "answers": ["12"]}


def count_words(prompt: str, prefix: str) -> int:
    return len((prompt + prefix).split())


def read(tmp_path: Path, *lines: object) -> list[Fixture]:
    path = tmp_path / "fixtures.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    task = JsonLines(
        name="jsonl", grade="ruler_any@2", max_new_tokens=8, path=str(path), fixtures=10**9, count_tokens=count_words
    )
    return list(task)


def test_every_form_of_a_line_is_read(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "It is"}]
    found = read(
        tmp_path,
        SPLIT
        | {"answer_prefix": " It is", "evidence": ["fox", [0, 3]], "cluster": "c", "metadata": {"page": 3}}
        | {"axes": {"hops": 2, "noise": 0.5}, "choices": ["12", "13"]},
        "",
        {"id": "b", "prompt": "Hm?", "answers": ["x", "y"]},
        {"id": "c", "messages": messages[:1], "answers": ["x"], "answer_prefix": "So"},
        {"id": "d", "messages": messages, "answers": ["x"]},
    )
    assert found == [
        Fixture(
            fixture_id="a",
            prompt="The fox has 12. What has the fox?",
            answer_prefix=" It is",
            question_start=16,
            answers=("12",),
            evidence=((4, 7), (29, 32), (0, 3)),
            cluster="c",
            choices=("12", "13"),
            axes=Axes(down="hops", down_at=2, across="noise", across_at=0.5),
            metadata={"page": 3},
        ),
        *(
            Fixture(fixture_id=name, prompt="Hm?", answer_prefix=prefix, question_start=0, answers=answers, evidence=())
            for name, prefix, answers in (("b", "", ("x", "y")), ("c", "So", ("x",)), ("d", "It is", ("x",)))
        ),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", ', r"line 2 is not JSON \(.*repair the line"),
        ("[1]", r"line 2 is list; legal is one JSON object"),
        (SPLIT | {"id": "b", "anwers": []}, r"line 2: key 'anwers' is unknown; did you mean answers\?"),
        (SPLIT, r"line 2: id='a' is that of line 1 too; .* rename one"),
        (SPLIT | {"id": ""}, r"line 2: id=''; legal is a text"),
        (SPLIT | {"id": 7}, r"line 2: id=7; legal is a text"),
        ({"id": "b", "answers": ["x"]}, r"line 2 has no prompt; legal is one of"),
        (SPLIT | {"id": "b", "prompt": "x"}, r"line 2 has prompt and context and question; legal is one of"),
        ({"id": "b", "context": "x", "answers": ["x"]}, r"line 2: question=None; legal is a text"),
        (SPLIT | {"id": "b", "answers": []}, r"line 2: answers=\[\]; legal is a list of at least one text"),
        (SPLIT | {"id": "b", "answers": "12"}, r"line 2: answers='12'; legal is a list"),
        (SPLIT | {"id": "b", "answers": ["x", ""]}, r"line 2: answers=\['x', ''\]; legal"),
        (SPLIT | {"id": "b", "choices": []}, r"line 2: choices=\[\]; legal is a list of at least one text"),
        (SPLIT | {"id": "b", "evidence": ["wolf"]}, r"line 2: evidence='wolf'; legal is a list of texts"),
        (SPLIT | {"id": "b", "evidence": [[5, 99]]}, r"line 2: evidence=\[5, 99\]; legal .* within its 33"),
        (SPLIT | {"id": "b", "evidence": [[5, 5]]}, r"line 2: evidence=\[5, 5\]; legal"),
        (SPLIT | {"id": "b", "evidence": [[True, 5]]}, r"line 2: evidence=\[True, 5\]; legal"),
        (SPLIT | {"id": "b", "metadata": {"a": [1]}}, r"line 2: metadata=\{'a': \[1\]\}; legal is an object"),
        *(
            (SPLIT | {"id": "b", "axes": axes}, rf"line 2: axes={shown}; legal is an object of two names, each with a")
            for axes, shown in (
                ({"depth": 0.5}, r"\{'depth': 0.5\}"),
                ({"depth": True, "length": 9}, r"\{'depth': True, 'length': 9\}"),
                ({"depth": "0.5", "length": 9}, r"\{'depth': '0.5', 'length': 9\}"),
                ([0.5, 9], r"\[0.5, 9\]"),
            )
        ),
        (SPLIT | {"id": "b", "axes": {"": 1, "length": 9}}, r"line 2: axes '' and 'length': legal are two names that"),
        (
            '{"id": "b", "prompt": "x", "answers": ["x"], "axes": {"a": NaN, "b": 1}}',
            r"line 2: axis 'a' has nan: legal",
        ),
        (
            {"id": "b", "messages": [{"role": "system", "content": "x"}], "answers": ["x"]},
            r"line 2: messages have the roles \['system'\]; legal is one user message",
        ),
        ({"id": "b", "messages": "x", "answers": ["x"]}, r"line 2: messages have the roles \[None\]"),
        (
            {
                "id": "b",
                "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
                "answers": ["x"],
                "answer_prefix": "z",
            },
            r"line 2: the answer is begun by answer_prefix and by an assistant message",
        ),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(tmp_path, SPLIT, line)


@pytest.mark.parametrize("names", [("hop", "noise"), ("hops", "length"), ("noise", "hops")])
def test_axes_of_other_names_than_before_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    lines = [SPLIT | {"id": name, "axes": {"hops": 1, "noise": 0.5}} for name in "ab"]
    assert len(read(tmp_path, SPLIT | {"id": "z"}, *lines)) == 3
    other = SPLIT | {"id": "c", "axes": dict.fromkeys(names, 2)}
    shown = f"'{names[0]}' and '{names[1]}'"
    with pytest.raises(BadInput, match=rf"line 4: axes {shown}, but line 2 has 'hops' and 'noise'; legal are the same"):
        read(tmp_path, SPLIT | {"id": "z"}, *lines, other)


@pytest.mark.parametrize(("path", "shown"), [("no/file", "'no/file'"), (["a"], r"\['a'\]"), (7, "7")])
def test_a_missing_file_is_named(path: Any, shown: str) -> None:
    task = JsonLines(name="jsonl", grade="x", max_new_tokens=1, path=path, fixtures=1, count_tokens=count_words)
    with pytest.raises(BadInput, match=rf"task.path={shown} is no file; give a file"):
        list(task)


INTRO = "Some special magic numbers are hidden within the following text. Make sure to memorize it.\n"
ROWS: dict[str, list[dict[str, Any]]] = {
    "niah_multikey_1_4k": [
        {
            "index": number,
            "input": f"{INTRO}Hay. One of the special magic numbers for a-b is: {1000 + number}. One of the special "
            f"magic numbers for c-d is: {2000 + number}. Is it all? Hay.\nWhat are all the special magic numbers for "
            "a-b mentioned in the provided text? The special magic numbers for a-b mentioned in the provided text are",
            "outputs": [str(1000 + number)],
            "length": 99,
        }
        for number in range(6)
    ],
    "vt_4k": [
        {
            "index": 3,
            "input": "Memorize.\n\nVAR AAA = 1\nQuestion: Find all variables that are assigned the value 1 in the text "
            "above. Answer: AAA\n\nMemorize.\n\nVAR BBB = 2\nVAR CCC = VAR BBB\nQuestion: Find all variables that are "
            "assigned the value 2 in the text above.",
            "outputs": ["BBB", "CCC"],
            "length": 99,
        }
    ],
}


def hub(source: str, **changes: Any) -> RulerHub:
    settings = {"config": "niah_multikey_1_4k", "split": "validation", "grade": "ruler_all@2"} | changes
    return RulerHub(
        name="ruler_hub", max_new_tokens=8, source=source, fixtures=10**9, count_tokens=count_words, **settings
    )


@pytest.fixture
def data_set(tmp_path: Path) -> str:
    """A folder of the Hub's form: a card that names configs, and their rows."""
    card = ["---", "configs:"]
    for config, rows in ROWS.items():
        card += [f"- config_name: {config}", "  data_files:", "  - split: validation", f"    path: {config}.jsonl"]
        (tmp_path / f"{config}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    return str(tmp_path)


@pytest.mark.integration
def test_rows_of_the_hub_become_fixtures(data_set: str, datasets: Any) -> None:
    fixtures = list(hub(data_set, split="validation[1:4]"))
    assert [fixture.fixture_id for fixture in fixtures] == [f"niah_multikey_1_4k-{number}" for number in (1, 2, 3)]
    for number, fixture in enumerate(fixtures, start=1):
        row = ROWS["niah_multikey_1_4k"][number]
        assert fixture.prompt == row["input"]
        assert fixture.answers == tuple(row["outputs"])
        (evidence,) = (fixture.prompt[start:end] for start, end in fixture.evidence)
        assert evidence == f"One of the special magic numbers for a-b is: {1000 + number}."
        assert fixture.prompt[fixture.question_start :].startswith("\nWhat are all the special magic numbers for a-b")
        assert fixture.metadata["answer_prefix_turn"] == "user"
        assert fixture.task == ""


@pytest.mark.integration
def test_several_configs_come_one_after_the_other(data_set: str, datasets: Any) -> None:
    fixtures = list(hub(data_set, config=["vt_4k", "niah_multikey_1_4k"]))
    assert len(fixtures) == 7
    assert [fixture.task for fixture in fixtures] == [fixture.fixture_id.rpartition("-")[0] for fixture in fixtures]
    chain = fixtures[0]
    assert chain.fixture_id == "vt_4k-3"
    assert chain.prompt[chain.question_start :].startswith(
        "\nQuestion: Find all variables that are assigned the value 2"
    )
    assert [chain.prompt[start:end] for start, end in chain.evidence] == ["BBB", "CCC", "BBB"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "niah_multikey_1_5k"}, r"config 'niah_multikey_1_5k', split 'validation' cannot be loaded"),
        ({"split": "training"}, r"split 'training' cannot be loaded"),
    ],
)
def test_what_the_data_set_has_not_is_named(
    data_set: str, datasets: Any, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        list(hub(data_set, **changes))


class Fake:
    """Stands for the library where only the rows matter."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def load_dataset(self, source: str, config: str, split: str) -> list[dict[str, Any]]:
        return self.rows


def test_an_answer_prefix_of_its_own_begins_the_assistant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS["vt_4k"][0] | {"answer_prefix": " Answer: they are"}
    monkeypatch.setitem(sys.modules, "datasets", Fake([row]))
    (fixture,) = hub(str(tmp_path))
    assert (fixture.answer_prefix, fixture.metadata["answer_prefix_turn"]) == (" Answer: they are", "assistant")
    assert fixture.prompt[fixture.question_start :].startswith(
        "\nQuestion: Find all variables that are assigned the value 2"
    )
    assert [fixture.prompt[start:end] for start, end in fixture.evidence] == ["BBB", "CCC", "BBB"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "x"}, r"row niah_multikey_1_4k-None has the columns \['input'\]; legal are index"),
        ({"index": 1, "input": "No question", "outputs": ["x"]}, r"has no question of RULER's in its input"),
        ({"index": 1, "input": "\nWhat is the special magic ", "outputs": []}, r"legal are index"),
    ],
)
def test_rows_of_another_form_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", Fake([row]))
    with pytest.raises(BadInput, match=message):
        list(hub(str(tmp_path)))


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"the package datasets, which is not installed; .*pip install 'vorn\[hub\]'"):
        list(hub("rbiswasfc/ruler"))
