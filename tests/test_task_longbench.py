"""LongBench's subsets from a folder and through the library of the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from tasks.longbench import LongBench
from tests.composing import composed, task_config
from vorn.grading import grade
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, Fixture, fingerprint
from vorn.regrade import regrade


def count_words(prompt: str, prefix: str) -> int:
    return len((prompt + prefix).split())


def longbench(folder: Path, **changes: Any) -> LongBench:
    settings: dict[str, Any] = {
        "name": "longbench_hotpotqa",
        "grade": "squad_f1@1",
        "max_new_tokens": 4,
        "subset": "hotpotqa",
        "source": str(folder),
        "sequence_tokens": None,
        "template": "Read this.\n{context}\n\nQuestion: {input}\nAnswer:",
        "fixtures": 10**9,
        "count_tokens": count_words,
    }
    return LongBench(**(settings | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {
            "context": " ".join(f"w{number}" for number in range(60 * (row + 1))) + " {input} {context}",
            "input": f"Who {row}? {{context}}",
            "answers": ["Ada", "Grace"],
            "_id": f"id{row}",
        }
        for row in range(2)
    ]
    (tmp_path / "hotpotqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_longbench_prompts_are_the_template_filled(folder: Path) -> None:
    one, two = longbench(folder)
    words = " ".join(f"w{number}" for number in range(60))
    assert one.prompt == f"Read this.\n{words} {{input}} {{context}}\n\nQuestion: Who 0? {{context}}\nAnswer:"
    assert one.prompt[one.question_start :] == "\n\nQuestion: Who 0? {context}\nAnswer:"
    assert (one.fixture_id, two.fixture_id) == ("longbench_hotpotqa/0", "longbench_hotpotqa/1")
    assert one.answers == ("Ada", "Grace")
    assert grade("squad_f1@1", "Grace", one.answers).outcome == 1.0


def test_a_long_context_loses_its_middle_and_nothing_else(folder: Path) -> None:
    _, fixture = longbench(folder, sequence_tokens=60)
    kept = fixture.prompt.split("\n")[1]
    numbers = [int(word) for word in re.findall(r"\bw(\d+)\b", kept)]
    assert numbers[:20] == list(range(20))
    assert kept.endswith("w117 w118 w119 {input} {context}")
    assert fixture.prompt.startswith("Read this.\n")
    assert fixture.prompt.endswith("\n\nQuestion: Who 1? {context}\nAnswer:")
    assert count_words(fixture.prompt, "") == 60 - 4
    left_out = int(fixture.metadata["left_out_characters"])
    assert len(kept) + left_out == len(" ".join(f"w{number}" for number in range(120)) + " {input} {context}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": "musique"}, r"has no musique.jsonl; it has hotpotqa; give LongBench's data folder"),
        ({"sequence_tokens": 8}, r"task.sequence_tokens=8 of longbench_hotpotqa cannot hold.*raise it to >= 11"),
        ({"template": "{input}"}, r"task.template='\{input\}': legal is a text with one"),
    ],
)
def test_longbench_that_cannot_be_made_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        list(longbench(folder, **changes))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hotpotqa.jsonl", r"hotpotqa.jsonl' is a file; give the folder that it is in: task.source={folder}$"),
        ("data", r"task.source='{folder}/data': there is no such folder; give"),
    ],
)
def test_a_source_that_is_no_folder_is_named(folder: Path, source: str, message: str) -> None:
    with pytest.raises(BadInput, match=message.format(folder=re.escape(str(folder)))):
        list(longbench(folder / source))


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", r"hotpotqa.jsonl, line 3 is not JSON"), ('{"input": "x"}', r"jsonl, line 3 has no 'context'")],
)
def test_a_broken_row_of_longbench_is_named(folder: Path, line: str, message: str) -> None:
    path = folder / "hotpotqa.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(BadInput, match=message):
        list(longbench(folder))


# A row of each subset as LongBench publishes them, with what the prompt says around its context, and what completions
# are worth by the subset's grade.
ROWS: Mapping[str, tuple[dict[str, Any], tuple[str, str], Mapping[str, float]]] = {
    "multifieldqa_zh": (
        {"context": "大会在北京举行。", "input": "大会在哪里举行？", "answers": ["北京"], "language": "zh"},
        (
            "阅读以下文字并用中文简短回答：\n\n",
            "\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n问题：大会在哪里举行？\n回答：",
        ),
        {"北京。": 1.0, "在北京": 2 / 3, "上海": 0.0},
    ),
    "dureader": (
        {"context": "文章1", "input": "首都是哪里？", "answers": ["首都是北京", "北京"], "language": "zh"},
        (
            "请基于给定的文章回答下述问题。\n\n文章：",
            "\n\n请基于上述文章回答下面的问题。\n\n问题：首都是哪里？\n回答：",
        ),
        {"北京": 1.0, "首都北京": 0.0, "是北京": 0.8, "上海": 0.0},
    ),
    "vcsum": (
        {"context": "甲：预算。", "input": "", "answers": ["会议 讨论 预算"], "language": "zh"},
        ("下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n", "\n\n会议总结："),
        {"会议讨论预算": 1.0, "预算": 0.5},
    ),
    "passage_retrieval_zh": (
        {"context": "段落1：甲\n\n段落2：乙", "input": "乙。", "answers": ["段落2"], "language": "zh"},
        (
            "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n",
            "\n\n下面是一个摘要\n\n乙。\n\n请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n答案是：",
        ),
        {"段落2": 1.0, "段落1或段落2": 0.5, "段落1": 0.0},
    ),
    "trec": (
        {
            "context": "Question: When?\nType: Date",
            "input": "Question: What was eaten?\nType:",
            "answers": ["Food"],
            "all_classes": ["Date", "Food"],
        },
        (
            "Please determine the type of the question below. Here are some examples of questions.\n\n",
            "\nQuestion: What was eaten?\nType:",
        ),
        {" Food\nQuestion: When?\nType: Date": 1.0, "Food or Date": 0.5, "Date\nFood": 0.0},
    ),
    "lsht": (
        {
            "context": "新闻内容：甲\n类别：体育",
            "input": "新闻内容：乙\n类别：",
            "answers": ["军事"],
            "all_classes": ["体育", "军事"],
        },
        ("请判断给定新闻的类别，下面是一些例子。\n\n", "\n新闻内容：乙\n类别："),
        {"军事": 1.0, "军事、体育": 0.5, "体育": 0.0},
    ),
}  # fmt: skip


def subset(name: str, source: Path) -> tuple[Any, list[Fixture]]:
    """The configuration that ships, and the fixtures that it makes of a folder or a data set."""
    cfg = task_config(f"longbench_{name}")
    cfg.source = str(source)
    return cfg, list(instantiate(cfg, count_tokens=count_words))


def write_rows(folder: Path, name: str) -> None:
    row = {"length": 9, "dataset": name, "language": "en", "all_classes": None, "_id": "0a"} | ROWS[name][0]
    (folder / f"{name}.jsonl").write_text((json.dumps(row, ensure_ascii=False) + "\n") * 2, encoding="utf-8")


def check(name: str, cfg: Any, fixtures: list[Fixture]) -> None:
    row, (before, after), worth = ROWS[name]
    assert [one.fixture_id for one in fixtures] == [f"longbench_{name}/0", f"longbench_{name}/1"]
    for fixture in fixtures:
        assert fixture.prompt == before + row["context"] + after
        assert fixture.prompt[fixture.question_start :] == after
        assert fixture.answers == tuple(row["answers"])
        assert fixture.choices == tuple(row.get("all_classes", ()))
        found = {said: grade(cfg.grade, said, fixture.answers, fixture.choices).outcome for said in worth}
        assert found == pytest.approx(worth, abs=1e-7)


@pytest.mark.parametrize("name", ROWS)
def test_rows_as_published_are_read_and_graded(name: str, tmp_path: Path) -> None:
    write_rows(tmp_path, name)
    check(name, *subset(name, tmp_path))


@pytest.mark.integration
def test_the_same_through_the_library_of_the_hub(tmp_path: Path, datasets: Any) -> None:
    card = ["---", "configs:"]
    (tmp_path / "data").mkdir()
    for name in ROWS:
        write_rows(tmp_path / "data", name)
        card += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: data/{name}.jsonl"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    for name in ROWS:
        check(name, *subset(name, tmp_path))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("Food", r"trec.jsonl, line 1 has all_classes='Food'; legal is a list of texts"),
        (None, r"trec.jsonl, line 1 cannot be graded: choices=\[\]: grade longbench_class_line@1 needs the classes"),
    ],
)
def test_classes_that_cannot_be_used_are_refused(tmp_path: Path, classes: object, message: str) -> None:
    (tmp_path / "trec.jsonl").write_text(json.dumps(ROWS["trec"][0] | {"all_classes": classes}))
    with pytest.raises(BadInput, match=message):
        subset("trec", tmp_path)


@pytest.mark.integration
def test_classes_are_recorded_with_the_outcomes(tmp_path: Path, random_checkpoint: Path) -> None:
    from vorn import run

    write_rows(tmp_path, "trec")
    cfg = composed(
        "task=longbench_trec", f"task.source={tmp_path}", "task.max_new_tokens=2", f"model.id={random_checkpoint}",
        "policy=[random]", "unit=[token]", "budget=[32]", "logger=none", f"ledger_dir={tmp_path / 'ledgers'}",
    )  # fmt: skip
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 0
    (ledger,) = (tmp_path / "ledgers").iterdir()
    contents = read_ledger(ledger)
    assert {one.choices for one in contents.observations} == {("Date", "Food")}
    assert regrade(contents, "longbench_class_line@1").changes == ()
    prompt = ROWS["trec"][1][0] + ROWS["trec"][0]["context"] + ROWS["trec"][1][1]
    assert {one.fingerprint for one in contents.observations} == {
        fingerprint(prompt, ("Food",), ("Date", "Food"))  # other classes would be another question
    }
