"""The grid, the edge cases, shared contexts and chains of facts: solved again from their texts."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice, pairwise

import pytest
from hydra.utils import instantiate

from tests.composing import task_config
from vorn.grading import grade
from vorn.records import BadInput, Fixture

NEEDLE = re.compile(r"One of the special magic numbers for (\S+) is: (\d{7})\.(?=\s|$)")


def count_words(prompt: str, prefix: str) -> int:
    return len((prompt + prefix).split())


def first(count: int, task: str, *overrides: str) -> list[Fixture]:
    return list(islice(instantiate(task_config(task, *overrides), count_tokens=count_words), count))


def around(fixture: Fixture) -> tuple[str, str]:
    """The essay before the first needle that is asked for, and after the last."""
    start = fixture.prompt.index("\n") + 1 if fixture.evidence[0][0] else 0
    before = fixture.prompt[start : fixture.evidence[0][0]]
    return before, fixture.prompt[fixture.evidence[-1][1] : fixture.question_start]


def test_every_cell_of_the_grid_has_its_length_and_depth() -> None:
    fixtures = first(24, "niah_grid", "lengths=[300,700]", "depths=[0,0.25,0.5,1]")
    axes = [fixture.axes for fixture in fixtures if fixture.axes]
    assert {(one.down, one.across) for one in axes} == {("depth", "length_tokens")}
    cells = [(one.across_at, one.down_at) for one in axes]
    assert Counter(cells) == {(length, depth): 3 for length in (300, 700) for depth in (0, 0.25, 0.5, 1)}
    assert cells[:8] == cells[8:16]
    for fixture, (length, depth) in zip(fixtures, cells, strict=True):
        assert int(length) - 17 <= count_words(fixture.prompt, fixture.answer_prefix) + 12 <= int(length)
        before, after = (len(re.findall(r"[.?!](?: |$)", text)) for text in around(fixture))
        assert before == int((before + after) * float(depth))
        assert NEEDLE.findall(fixture.prompt) == [(fixture.metadata["keys"], fixture.answers[0])]
    assert len({fixture.answers for fixture in fixtures}) == len({fixture.fixture_id for fixture in fixtures}) == 24


def test_a_grid_notes_what_a_number_of_fixtures_leaves_out() -> None:
    """Oracle: the fields of that many fixtures, counted."""
    lengths, depths = [300, 400, 700], [0, 0.5]
    task = instantiate(task_config("niah_grid", f"lengths={lengths}", f"depths={depths}"), count_tokens=count_words)
    fixtures = list(islice(task, 13))
    for taken in range(1, 14):
        counts = Counter((one.axes.across_at, one.axes.down_at) for one in fixtures[:taken] if one.axes)
        filled = [counts[length, depth] for length in lengths for depth in depths]
        empty = [str(length) for length in lengths if not any(counts[length, depth] for depth in depths)]
        note = task.note(taken)
        assert bool(note) == (len(set(filled)) > 1)
        if note:
            more = f"{max(filled)} on {filled.count(max(filled))} of 6 fields, {min(filled) or 'none'} on the others"
            assert note.startswith(f"fixtures per field of the grid: {more}")
            assert (f"so that the lengths {', '.join(empty)} are left out;" in note) == bool(empty)
            assert note.endswith(f"; a limit of {6 * max(filled)} fills all alike")


def test_one_length_or_depth_is_a_list_of_one() -> None:
    assert first(3, "niah_grid", "lengths=300", "depths=0.5") == first(3, "niah_grid", "lengths=[300]", "depths=[0.5]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("depths=0.5%", r"task.depths=\['0.5%'\]: legal are numbers from 0 to 1"),
        ("depths=[0,1.5]", r"task.depths=\[0, 1.5\]: legal are numbers from 0 to 1"),
        ("depths=[]", r"task.depths=\[\]: legal are numbers"),
        ("lengths=[500,500]", r"task.lengths=\[500, 500\]: legal is at least one value, each once"),
        ("lengths=[30]", r"task.lengths=30 of niah_grid cannot hold"),
        ("lengths=[0,500]", r"task.lengths=0: legal values are whole numbers from 2"),
        ("lengths=[500.5]", r"task.lengths=500.5: legal values are whole numbers from 2"),
        ("lengths=[abc]", r"task.lengths='abc': legal values are whole numbers from 2"),
        ("essay=null", r"task.essay=None: niah_grid hides"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(override: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        first(1, "niah_grid", override)
    assert isinstance(caught.value, BadInput) or isinstance(caught.value.__cause__, BadInput)


def test_edge_cases_are_what_they_are_called() -> None:
    fixtures = first(18, "edges", "sequence_tokens=400")
    kinds = [str(fixture.metadata["kind"]) for fixture in fixtures]
    assert Counter(kinds) == dict.fromkeys(["first", "last", "short", "several", "twins", "late_twin"], 3)
    for kind, fixture in zip(kinds, fixtures, strict=True):
        needles = dict(NEEDLE.findall(fixture.prompt))
        spans = [fixture.prompt[start:end] for start, end in fixture.evidence]
        assert [needles[NEEDLE.findall(span)[0][0]] for span in spans] == list(fixture.answers)
        before, after = around(fixture)
        if kind == "first":
            assert fixture.evidence[0][0] == 0
            assert len(fixture.prompt.split()) > 300
        elif kind == "last":
            assert after == ""
            assert len(fixture.prompt.split()) > 300
        elif kind == "short":
            assert len(re.findall(r"[.?!](?: |$)", after)) == 3
            assert len(fixture.prompt.split()) < 110
        elif kind == "several":
            assert len(fixture.answers) == len(needles) == 3
            assert 0 < len(before) < len(after) * 2
        else:
            asked = re.findall(r"number for (\S+) mentioned", fixture.prompt)[0]
            (twin,) = set(needles) - {asked}
            assert sum(a == b for a, b in zip(asked.split("-"), twin.split("-"), strict=True)) == 1
            assert after.endswith(f"for {twin} is: {needles[twin]}.") == (kind == "late_twin")
            assert (before == "") == (kind == "late_twin")


def test_questions_of_a_cluster_share_their_context_and_differ() -> None:
    fixtures = first(12, "shared_context", "sequence_tokens=500")
    assert Counter(fixture.cluster for fixture in fixtures) == {fixture.cluster: 4 for fixture in fixtures[::4]}
    for start in (0, 4, 8):
        cluster = fixtures[start : start + 4]
        assert len({fixture.prompt[: fixture.question_start] for fixture in cluster}) == 1
        assert len({fixture.cluster for fixture in cluster}) == 1
        assert len({fixture.answers for fixture in cluster}) == 4
        for fixture in cluster:
            needles = dict(NEEDLE.findall(fixture.prompt))
            assert len(needles) == 8
            asked = re.findall(r"number for (\S+) mentioned", fixture.prompt[fixture.question_start :])
            assert fixture.answers == (needles[asked[0]],)
            (evidence,) = (fixture.prompt[start:end] for start, end in fixture.evidence)
            assert NEEDLE.findall(evidence) == [(asked[0], fixture.answers[0])]
            assert count_words(fixture.prompt, fixture.answer_prefix) + 12 <= 500
    assert len({fixture.prompt[: fixture.question_start] for fixture in fixtures}) == 3


def test_the_longest_question_of_a_context_fits_too() -> None:
    """Keys differ in their characters, so that with these as tokens the questions differ in length."""

    def count(prompt: str, prefix: str) -> int:
        return len(prompt + prefix)

    task = instantiate(task_config("shared_context", "sequence_tokens=2500"), count_tokens=count)
    lengths = [count(fixture.prompt, fixture.answer_prefix) + 12 for fixture in islice(task, 40)]
    assert 2500 - 120 < max(lengths) <= 2500
    assert len(set(lengths)) > 10


def test_more_questions_than_needles_are_refused() -> None:
    with pytest.raises(Exception, match=r"task.questions=9: legal is at most task.keys=8"):
        first(1, "shared_context", "questions=9")


@pytest.mark.parametrize("hops", [1, 2, 4])
def test_a_chain_of_facts_leads_from_the_thing_to_the_town(hops: int) -> None:
    positions = []
    for fixture in first(8, "hops", f"hops={hops}", "sequence_tokens=500"):
        context = fixture.prompt[fixture.prompt.index("\nExample") :].split("\n", 2)[2][: fixture.question_start]
        inside = dict(re.findall(r"The (\w+ \w+) is in the (town of \w+|\w+ \w+)\.", context))
        assert len(inside) == 4 * hops
        place = re.findall(r"In which town is the (\w+ \w+)\?$", fixture.prompt)[0]
        for _ in range(hops):
            assert not place.startswith("town of")
            place = inside[place]
        assert fixture.answers == (place.removeprefix("town of "),)
        assert len(fixture.evidence) == hops
        assert sum(fixture.prompt[a:b].endswith(f"town of {fixture.answers[0]}.") for a, b in fixture.evidence) == 1
        towns = [town.removeprefix("town of ") for town in inside.values() if town.startswith("town of")]
        assert grade("ruler_all@2", " ".join(towns), fixture.answers).outcome == 1.0
        assert grade("ruler_all@2", " ".join(set(towns) - set(fixture.answers)), fixture.answers).outcome == 0.0
        last = [fixture.prompt[a:b].endswith(f"town of {fixture.answers[0]}.") for a, b in fixture.evidence].index(True)
        positions.append(last)
        assert all(first[1] <= second[0] for first, second in pairwise(fixture.evidence))
    assert hops == 1 or len(set(positions)) > 1  # the facts stand in random order


@pytest.mark.parametrize(
    ("override", "message"),
    [("hops=0", r"task.hops=0: legal values are"), ("chains=217", r"task.chains=217: legal values are whole numbers")],
)
def test_chains_that_cannot_be_made_are_refused(override: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        first(1, "hops", override)
