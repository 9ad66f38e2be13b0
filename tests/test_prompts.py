"""Rendering: what the model reads, and where the evidence stands in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vorn.models.prompts import Renderer
from vorn.records import BadInput, Fixture

CHAT = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant] "


def fixture(prompt: str = "The fox has 1234567. What has the fox?", needle: str = "The fox has 1234567.") -> Fixture:
    start = prompt.index(needle)
    return Fixture(
        fixture_id="f",
        prompt=prompt,
        answer_prefix=" The fox has",
        question_start=21,
        answers=("1234567",),
        evidence=((start, start + len(needle)),),
    )


@pytest.fixture
def chatty(pocket_tokenizer: Any) -> Any:
    tokenizer = copy.deepcopy(pocket_tokenizer)
    tokenizer.chat_template = CHAT
    return tokenizer


def test_a_plain_prompt_is_read_as_it_is(pocket_tokenizer: Any) -> None:
    prompt = Renderer(pocket_tokenizer, "auto").prompt(fixture())
    assert prompt.text == "The fox has 1234567. What has the fox? The fox has"
    assert prompt.input_ids[0] == pocket_tokenizer.bos_token_id
    assert pocket_tokenizer.decode(prompt.input_ids[1:]) == prompt.text


def test_a_chat_template_is_used_and_adds_its_own_special_tokens(chatty: Any) -> None:
    prompt = Renderer(chatty, "auto").prompt(fixture())
    assert prompt.text == "<|begin|>[user] The fox has 1234567. What has the fox?\n[assistant] The fox has"
    assert prompt.input_ids.count(chatty.bos_token_id) == 1


def test_a_chat_template_can_be_turned_off(chatty: Any) -> None:
    assert Renderer(chatty, False).prompt(fixture()).text.startswith("The fox")


@pytest.mark.parametrize("template", [None, CHAT])
def test_evidence_tokens_spell_the_evidence(pocket_tokenizer: Any, chatty: Any, template: str | None) -> None:
    needle = "One of them for amber-oak is: 7654321."
    given = fixture(f"Before it. {needle} After it. The number?", needle)
    prompt = Renderer(chatty if template else pocket_tokenizer, "auto").prompt(given)
    assert list(prompt.evidence) == list(range(prompt.evidence[0], prompt.evidence[-1] + 1))
    spelled = pocket_tokenizer.decode([prompt.input_ids[position] for position in prompt.evidence])
    assert spelled.strip() == needle


def test_count_agrees_with_the_prompt(chatty: Any) -> None:
    renderer, given = Renderer(chatty, "auto"), fixture()
    assert renderer.count_tokens(given.prompt, given.answer_prefix) == len(renderer.prompt(given).input_ids)


def test_a_template_that_changes_the_text_is_refused(chatty: Any) -> None:
    chatty.chat_template = CHAT.replace("m['content']", "m['content'] | upper")
    with pytest.raises(BadInput, match="changes the prompt's text"):
        Renderer(chatty, "auto").prompt(fixture())


def test_an_unknown_setting_is_refused(pocket_tokenizer: Any) -> None:
    with pytest.raises(BadInput, match=r"model.chat_template='no': legal values are auto and false"):
        Renderer(pocket_tokenizer, "no")


def test_evidence_of_many_spans_is_every_token_that_overlaps_one(pocket_tokenizer: Any) -> None:
    """Oracle: each token against each span; spans in any order, some overlapping, one within another, one empty."""
    text = "The fox has 1234567. What has the fox? Nobody knows what the red fox has."
    spans = ((31, 33), (28, 41), (4, 7), (5, 9), (11, 11), (60, 61), (64, 65), (68, 69))
    given = Fixture(fixture_id="f", prompt=text, answer_prefix="", question_start=0, answers=("x",), evidence=spans)
    prompt = Renderer(pocket_tokenizer, "auto").prompt(given)
    expected = [
        position
        for position, (start, end) in enumerate(prompt.offsets)
        if any(start < stop and first < end for first, stop in spans)
    ]
    assert list(prompt.evidence) == expected
    assert 5 < len(expected) < len(prompt.offsets) - 5
