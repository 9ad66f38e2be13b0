"""RULER's tasks: every prompt is solved again from its text alone, by counting, following and searching."""

from __future__ import annotations

import functools
import json
import math
import random
import re
import uuid
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from scipy.special import zeta
from scipy.stats import chisquare

from tasks import prose
from tasks.haystack import NOISE
from tasks.ruler_niah import distinct
from tests.composing import composed, task_config
from vorn.records import BadInput, Fixture

NEEDLE = re.compile(r"One of the special magic (numbers|uuids) for (\S+) is: (\S+)\.(?=\s|$)")
FORMS = {
    "numbers": re.compile(r"[1-9]\d{6}"),
    "words": re.compile(r"[a-z]+-[a-z]+"),
    "uuids": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


def count_words(prompt: str, prefix: str) -> int:
    return len((prompt + prefix).split())


def first(count: int, task: str, *overrides: str, counter: Any = count_words) -> list[Fixture]:
    """The first fixtures of a task, as its yaml makes them."""
    try:
        return list(islice(made(task, *overrides, counter=counter), count))
    except InstantiationException as error:
        raise error.__cause__ or error from error


@functools.cache
def made(task: str, *overrides: str, counter: Any = count_words) -> Any:
    return instantiate(task_config(task, "sequence_tokens=900", *overrides), count_tokens=counter)


# Published in scripts/synthetic.yaml: haystack, form of keys, form of values, keys, values of each, queries.
PUBLISHED = {
    "niah_single_1": ("noise", "words", "numbers", 1, 1, 1),
    "niah_single_2": ("essay", "words", "numbers", 1, 1, 1),
    "niah_single_3": ("essay", "words", "uuids", 1, 1, 1),
    "niah_multikey_1": ("essay", "words", "numbers", 4, 1, 1),
    "niah_multikey_2": ("needle", "words", "numbers", 1, 1, 1),
    "niah_multikey_3": ("needle", "uuids", "uuids", 1, 1, 1),
    "niah_multivalue": ("essay", "words", "numbers", 1, 4, 1),
    "niah_multiquery": ("essay", "words", "numbers", 4, 1, 4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_needles_are_as_published_and_the_question_is_answered_by_them(name: str) -> None:
    haystack, key_form, value_form, keys, values, queries = PUBLISHED[name]
    for fixture in first(6, name, "essay=invented"):
        found = [(key, value) for _, key, value in NEEDLE.findall(fixture.prompt)]
        assert all(FORMS[key_form].fullmatch(key) and FORMS[value_form].fullmatch(value) for key, value in found)
        match = re.search(r"\nWhat (?:is|are all) the special magic \w+ for (.*) mentioned in", fixture.prompt)
        assert match is not None
        asked = re.split(r", (?:and )?", match[1])
        assert len(asked) == len(set(asked)) == queries
        assert list(fixture.answers) == [value for key in asked for k, value in found if k == key] or values > 1
        assert Counter(fixture.answers) == Counter(value for key, value in found if key in asked)
        assert len(fixture.answers) == queries * values
        lines = fixture.prompt[: fixture.question_start].split("\n")[1:]
        if haystack == "noise":
            assert Counter(lines)[NOISE] == len(lines) - 1
        elif haystack == "needle":
            assert len(found) == len(lines) > 50
        else:
            assert len(lines) == 1
            assert len(found) == keys * values
        evidence = [fixture.prompt[start:end] for start, end in fixture.evidence]
        assert sorted(evidence) == sorted(
            f"One of the special magic {value_form} for {key} is: {value}." for key, value in found if key in asked
        )


@pytest.mark.parametrize(
    ("name", "intro", "question", "prefix"),
    [
        (
            "niah_single_1",
            "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you "
            "about the number afterwards.\n",
            r"\nWhat is the special magic number for \S+ mentioned in the provided text\?",
            r" The special magic number for \S+ mentioned in the provided text is",
        ),
        (
            "niah_single_3",
            "A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you "
            "about the uuid afterwards.\n",
            r"\nWhat is the special magic uuid for \S+ mentioned in the provided text\?",
            r" The special magic uuid for \S+ mentioned in the provided text is",
        ),
        (
            "niah_multiquery",
            "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz "
            "you about the numbers afterwards.\n",
            r"\nWhat are all the special magic numbers for \S+, \S+, \S+, and \S+ mentioned in the provided text\?",
            r" The special magic numbers for \S+, \S+, \S+, and \S+ mentioned in the provided text are",
        ),
    ],
)
def test_the_texts_around_a_haystack_are_rulers(name: str, intro: str, question: str, prefix: str) -> None:
    (fixture,) = first(1, name, "essay=invented")
    assert fixture.prompt.startswith(intro)
    assert re.fullmatch(question, fixture.prompt[fixture.question_start :])
    assert re.fullmatch(prefix, fixture.answer_prefix)


def test_keys_differ_from_each_other_and_from_those_that_are_taken() -> None:
    every = {f"{adjective}-{noun}" for adjective in prose.ADJECTIVES for noun in prose.NOUNS}
    free = {"amber-oak", "zesty-zebra", "calm-cup"}
    assert set(distinct(random.Random(0), "words", 3, every - free)) == free


def test_uuids_are_random_ones() -> None:
    values = [value for fixture in first(3, "niah_multikey_3") for _, _, value in NEEDLE.findall(fixture.prompt)]
    assert {uuid.UUID(value).version for value in values} == {4}
    assert len(set(values)) == len(values)


def test_depths_in_an_essay_are_uniform_and_in_lines_too() -> None:
    for name in ("niah_single_2", "niah_single_1"):
        quarters = [0, 0, 0, 0]
        for fixture in first(160, name, "essay=invented"):
            depth = fixture.evidence[0][0] / fixture.question_start
            quarters[min(3, int(4 * depth))] += 1
        assert chisquare(quarters).pvalue > 0.01, name


def test_a_chain_of_assignments_leads_from_the_value_to_the_answers() -> None:
    for fixture in first(8, "vt"):
        text = fixture.prompt[fixture.prompt.rindex("Memorize and track") :]
        value = re.search(r"assigned the value (\d{5}) in the text above\.$", text)
        assert value is not None
        holding: list[str] = []
        for name, source in re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", text):  # in the text's order
            if source == value[1] or source in holding:
                holding.append(name)
        assert tuple(holding) == fixture.answers
        assert len(holding) == 5
        assert text.count("VAR ") == 5 + 4
        evidence = [fixture.prompt[start:end] for start, end in fixture.evidence]
        assert [re.findall(r"[A-Z]{5}", line)[0] for line in evidence] == holding
        assert min(start for start, _ in fixture.evidence) > fixture.prompt.rindex("Memorize and track")
        assert fixture.answer_prefix == (
            " Answer: According to the chain(s) of variable assignment in the text above, 5 variables are assigned "
            f"the value {value[1]}, they are: "
        )


def test_the_solved_example_of_variable_tracking_is_right_and_short() -> None:
    examples = []
    for fixture in first(5, "vt"):
        example = fixture.prompt[: fixture.prompt.rindex("Memorize and track")]
        assert example.endswith("\n\n")
        assert count_words(example, "") <= 500
        names = re.findall(r"VAR ([A-Z]{3}) =", example)
        assert example.split("they are: ")[1].split() == names
        assert len(set(names)) == 5
        examples.append(example)
    assert len(set(examples)) == 5


def test_several_chains_in_an_essay_are_mixed_and_kept_apart() -> None:
    runs = []
    for fixture in first(4, "vt", "chains=3", "hops=2", "haystack=essay", "essay=invented"):
        text = fixture.prompt[fixture.prompt.rindex("Memorize and track") :]
        assert text.count("VAR ") == 3 * (3 + 2)
        lines = re.findall(r"VAR ([A-Z]{5}) =", text)
        runs.append("".join("x" if name in fixture.answers else "." for name in lines).count("xxx"))
        assert len(fixture.answers) == 3
        assert all(line.endswith(".") for line in (fixture.prompt[a:b] for a, b in fixture.evidence))
        value = re.search(r"assigned the value (\d{5}) in", text)
        assert value is not None
        holding: list[str] = []
        for name, source in re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", text):
            if source == value[1] or source in holding:
                holding.append(name)
        assert tuple(holding) == fixture.answers
    assert sum(runs) < 4


@pytest.mark.parametrize(("tokens", "often", "seldom", "example"), [(900, 6, 1, (3, 1)), (4500, 30, 3, (10, 3))])
def test_common_words_are_the_ones_that_are_counted(tokens: int, often: int, seldom: int, example: Any) -> None:
    for fixture in first(2, "cwe", f"sequence_tokens={tokens}"):
        solved, asked = fixture.prompt.split("Below is a numbered list of words.")[1:]
        for text, times, answers in (
            (asked, (often, seldom), fixture.answers),
            (solved, example, [w for _, w in re.findall(r"(\d+)\. (\w+)", solved.split("list are:")[1])]),
        ):
            listed = re.findall(r"(\d+)\. (\w+)", text.split("\nQuestion:")[0])
            assert [int(number) for number, _ in listed] == list(range(1, len(listed) + 1))
            counts = Counter(word for _, word in listed)
            assert {word for word, count in counts.items() if count == times[0]} == set(answers)
            assert {count for word, count in counts.items() if word not in answers} == {times[1]}
            assert len(set(answers)) == 10
        assert {fixture.prompt[start:end] for start, end in fixture.evidence} == set(fixture.answers)
        assert len(fixture.evidence) == 10 * often


def test_a_list_longer_than_the_words_there_are_takes_joined_ones() -> None:
    (fixture,) = first(1, "cwe", "sequence_tokens=14000")
    words = set(re.findall(r"\d+\. (\w+)", fixture.prompt.split("Below is")[2].split("\nQuestion:")[0]))
    assert len(words) > 1900


def test_coded_words_follow_the_zeta_distribution() -> None:
    for fixture in first(4, "fwe", "sequence_tokens=2050"):
        start = fixture.prompt.index("coded words. ") + len("coded words. ")
        counts = Counter(fixture.prompt[start : fixture.question_start].split(" "))
        ranked = [word for word, _ in counts.most_common(4)]
        assert ranked[0] == "..."
        assert tuple(ranked[1:]) == fixture.answers
        assert all(re.fullmatch(r"[a-z]{6}", word) for word in counts if word != "...")
        n = next(n for n in range(1, 4000) if math.floor(n / zeta(2.0)) == counts["..."])
        for rank, (_, count) in enumerate(counts.most_common(20), start=1):
            assert math.floor(n / rank**2 / zeta(2.0)) <= count <= math.floor((n + 2) / rank**2 / zeta(2.0))
        assert counts[ranked[3]] > counts.most_common(5)[4][1]
        assert {fixture.prompt[a:b] for a, b in fixture.evidence} == set(fixture.answers)
        assert len(fixture.evidence) == sum(counts[word] for word in fixture.answers)


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    def paragraph(article: int, number: int) -> dict[str, Any]:
        text = f"Fact {article}.{number}: the code of city {article}.{number} is C{article}x{number}. " + "Filler. " * 9
        qas = [
            {
                "question": f"What is the code of city {article}.{number}?",
                "is_impossible": False,
                "answers": [{"text": f"C{article}x{number}"}, {"text": f"C{article}x{number}"}, {"text": "the code"}],
            },
            {"question": "What is not there?", "is_impossible": True, "answers": []},
        ]
        return {"context": text, "qas": qas}

    articles = [{"paragraphs": [paragraph(article, number) for number in range(3)]} for article in range(40)]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": articles}))
    return path


@pytest.fixture
def hotpotqa(tmp_path: Path) -> Path:
    rows = [
        {
            "question": f"Question {row}?",
            "answer": f"answer {row}",
            "context": [[f"Title {row}.{n}", [f"First {row}.{n}. ", f"Second {row}.{n}."]] for n in range(10)],
            "supporting_facts": [[f"Title {row}.4", 0], [f"Title {row}.7", 1], [f"Title {row}.4", 1]],
        }
        for row in range(30)
    ]
    path = tmp_path / "hotpotqa.json"
    path.write_text(json.dumps(rows))
    return path


def documents(fixture: Fixture) -> list[str]:
    """The numbered documents of a prompt, in order."""
    context = fixture.prompt[: fixture.question_start].split("The following are given documents.\n\n")[1]
    parts = re.split(r"(?:^|\n\n)Document (\d+):\n", context)[1:]
    assert [int(number) for number in parts[::2]] == list(range(1, len(parts) // 2 + 1))
    return parts[1::2]


def test_squad_questions_stand_among_their_article_and_others(squad: Path) -> None:
    fixtures = first(100, "qa_1", f"source={squad}")
    assert len({fixture.prompt[fixture.question_start :] for fixture in fixtures}) == 100
    for fixture in fixtures[:20]:
        found = documents(fixture)
        city = re.search(r"city (\d+)\.(\d+)\?$", fixture.prompt)
        assert city is not None
        assert fixture.answers == (f"C{city[1]}x{city[2]}", "the code")
        (evidence,) = (fixture.prompt[start:end] for start, end in fixture.evidence)
        assert evidence.startswith(f"Fact {city[1]}.{city[2]}:")
        assert sum(text.startswith(f"Fact {city[1]}.") for text in found) == 3
        assert len(found) == len(set(found)) > 30
    places = [documents(f).index(f.prompt[f.evidence[0][0] : f.evidence[0][1]]) for f in fixtures]
    assert len(set(places)) > 20


def test_there_are_as_many_fixtures_as_questions_that_can_be_answered(squad: Path) -> None:
    assert len(first(1000, "qa_1", f"source={squad}")) == 120


def test_hotpotqa_brings_its_ten_paragraphs_and_marks_the_supporting_ones(hotpotqa: Path) -> None:
    for row, fixture in enumerate(first(10, "qa_2", f"source={hotpotqa}")):
        found = documents(fixture)
        assert sum(text.startswith(f"Title {row}.") for text in found) == 10
        assert len(found) > 10
        evidence = {fixture.prompt[start:end] for start, end in fixture.evidence}
        assert evidence == {f"Title {row}.{n}\nFirst {row}.{n}. Second {row}.{n}." for n in (4, 7)}
        assert fixture.answers == (f"answer {row}",)
        assert fixture.prompt.endswith(f"Question: Question {row}?")


@pytest.mark.parametrize(
    ("turn", "ends", "prefix"), [("user", True, False), ("assistant", False, True), ("none", 0, 0)]
)
def test_the_beginning_of_the_answer_stands_in_the_turn_that_is_asked_for(turn: str, ends: bool, prefix: bool) -> None:
    (fixture,) = first(1, "niah_single_1", f"answer_prefix={turn}")
    beginning = " mentioned in the provided text is"
    assert fixture.prompt.endswith(beginning) == ends
    assert fixture.answer_prefix.endswith(beginning) == prefix
    assert fixture.metadata["answer_prefix_turn"] == turn


@pytest.fixture
def whole(squad: Path, hotpotqa: Path) -> list[str]:
    return ["essay=invented", f"squad={squad}", f"hotpotqa={hotpotqa}"]


def test_ruler_is_its_thirteen_members_in_turn(whole: list[str]) -> None:
    fixtures = first(26, "ruler", *whole)
    names = [*PUBLISHED, "vt", "cwe", "fwe", "qa_1", "qa_2"]
    assert [fixture.task for fixture in fixtures] == names * 2
    sources = {"qa_1": "source=" + whole[1].split("=")[1], "qa_2": "source=" + whole[2].split("=")[1]}
    published = {"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}
    for name, one, two in zip(names, fixtures[:13], fixtures[13:], strict=True):
        needs_essay = PUBLISHED.get(name, ("",))[0] == "essay"
        alone = first(2, name, *(["essay=invented"] if needs_essay else []), *filter(None, [sources.get(name)]))
        assert [fixture.prompt for fixture in (one, two)] == [fixture.prompt for fixture in alone]
        assert [fixture.fixture_id for fixture in (one, two)] == [f"{name}/seed0/0", f"{name}/seed0/1"]
        assert one.grade == ("ruler_any@2" if name.startswith("qa") else "ruler_all@2")
        assert one.max_new_tokens == published.get(name, 128)


def test_a_member_can_be_left_out(whole: list[str]) -> None:
    cfg = composed("task=ruler", "~task.members.qa_1", "~task.members.qa_2", "task.essay=invented")
    tasks = {fixture.task for fixture in islice(instantiate(cfg.task, count_tokens=count_words), 22)}
    assert tasks == {*PUBLISHED, "vt", "cwe", "fwe"}


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        ("niah_single_2", [], r"task.essay=None: niah_single_2 hides its needles in essays.*give task.essay=FILE"),
        ("niah_single_2", ["essay=nowhere.txt"], r"task.essay='nowhere.txt' is no file"),
        ("niah_single_1", ["haystack=hay"], r"task.haystack='hay': legal values are noise, needle, essay"),
        ("niah_single_1", ["answer_prefix=system"], r"task.answer_prefix='system': legal values are assistant, user"),
        ("niah_single_1", ["keys=0"], r"task.keys=0: legal values are whole numbers from 1 to 40"),
        ("niah_single_1", ["keys=20", "values=3"], r"=60: a haystack takes at most 40 needles"),
        ("niah_single_1", ["sequence_tokens=150"], r"task.sequence_tokens=150 of niah_single_1 cannot hold"),
        ("vt", ["chains=10"], r"task.chains=10 of task.hops=4 have more than 40 lines"),
        ("cwe", ["uncommon_times=30"], r"task.uncommon_times=30: common words must occur more often"),
        ("cwe", ["sequence_tokens=300"], r"task.sequence_tokens=300 of cwe cannot hold .*raise it to >= \d{3}"),
        ("fwe", ["alpha=1"], r"task.alpha=1: legal are numbers from 1.1"),
        ("qa_1", [], r"task.source=None: qa_1 asks questions of a data set that does not ship"),
        ("qa_2", ["source=nowhere.json"], r"task.source='nowhere.json' is no file"),
        ("ruler", ["max_new_tokens=64", "essay=invented", "squad=x", "hotpotqa=x"], r"task.max_new_tokens=64: legal"),
        ("ruler", ["squad=x", "hotpotqa=x"], r"task.essay=None"),
    ],
)
def test_what_cannot_be_made_is_refused(task: str, overrides: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        first(1, task, *overrides)


def test_the_length_that_a_message_names_is_enough() -> None:
    with pytest.raises(BadInput, match="cannot hold") as caught:
        first(1, "cwe", "sequence_tokens=300")
    least = int(re.findall(r">= (\d+)", str(caught.value))[0])
    assert first(1, "cwe", f"sequence_tokens={least}")
    with pytest.raises(BadInput, match="cannot hold"):
        first(1, "cwe", f"sequence_tokens={least - 1}")


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"data": [{"title": "no paragraphs"}]}')
    with pytest.raises(BadInput, match=r"has not the form of SQuAD 2.0 or HotpotQA \(KeyError"):
        first(1, "qa_1", f"source={path}")


def test_an_essay_can_be_text_or_json_and_is_repeated_where_it_is_too_short(tmp_path: Path) -> None:
    sentences = "It was told once. Nobody knew why! Was it true?"
    (tmp_path / "essay.txt").write_text(sentences)
    (tmp_path / "essay.json").write_text(json.dumps({"text": sentences.replace(" ", "\n ")}))
    (tmp_path / "bad.json").write_text('{"no": "text"}')
    (text,) = first(1, "niah_single_2", f"essay={tmp_path}/essay.txt")
    (json_,) = first(1, "niah_single_2", f"essay={tmp_path}/essay.json")
    assert text.prompt == json_.prompt
    needle = text.prompt[slice(*text.evidence[0])]
    before, after = text.prompt[text.prompt.index("\n") + 1 : text.question_start].split(needle)
    words = (before + after).split()
    assert len(words) > 500
    assert words == (sentences.split() * 100)[: len(words)]
    assert not before or before.rstrip().endswith((".", "!", "?"))
    with pytest.raises(BadInput, match=r"bad.json' is JSON without the key text"):
        first(1, "niah_single_2", f"essay={tmp_path}/bad.json")
