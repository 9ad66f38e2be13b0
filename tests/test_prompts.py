"""Rendering: what the model reads, and where the evidence stands in it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from tokenizers.normalizers import Replace
from tokenizers.processors import TemplateProcessing

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


def test_a_chat_template_gets_its_arguments(chatty: Any) -> None:
    chatty.chat_template = (
        CHAT + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    )
    off = Renderer(chatty, "auto", {"enable_thinking": False}).text("Hi", "")
    assert off.endswith("[assistant] <think></think>")
    assert Renderer(chatty, "auto", {"enable_thinking": None}).text("Hi", "").endswith("[assistant] ")


def raw(tokenizer: Any, adds_bos: bool, adds_eos: bool = False) -> Any:
    """The tokenizer with a post-processor that adds these tokens."""
    changed = copy.deepcopy(tokenizer)
    begin, end = changed.bos_token, changed.eos_token
    single = ([begin] if adds_bos else []) + ["$A"] + ([end] if adds_eos else [])
    known = [(token, changed.convert_tokens_to_ids(token)) for token in (begin, end)]
    changed._tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=known)
    changed.chat_template = None
    return changed


@pytest.mark.parametrize(
    ("template", "adds_bos", "count"),
    [
        (None, True, 1),
        (None, False, 0),
        (CHAT, True, 1),
        (CHAT, False, 1),
        (CHAT.replace("{{ bos_token }}", ""), True, 0),
    ],
)
def test_beginning_of_sequence_comes_from_template_or_tokenizer_but_never_from_both(
    pocket_tokenizer: Any, template: str | None, adds_bos: bool, count: int
) -> None:
    tokenizer = raw(pocket_tokenizer, adds_bos)
    tokenizer.chat_template = template
    ids = Renderer(tokenizer, "auto").prompt(fixture()).input_ids
    assert ids.count(tokenizer.bos_token_id) == count
    assert ids[:count] == (tokenizer.bos_token_id,) * count


def test_two_beginnings_are_refused(pocket_tokenizer: Any) -> None:
    with pytest.raises(BadInput, match=r"fixture 'f': begins with two tokens '<\|begin\|>'.*add_bos_token=false"):
        Renderer(raw(pocket_tokenizer, True), "auto").prompt(fixture("<|begin|>The fox has 1234567. What?"))


def test_an_end_after_the_prompt_is_refused(pocket_tokenizer: Any) -> None:
    with pytest.raises(BadInput, match=r"the tokenizer ends the prompt with '.*add_eos_token=false"):
        Renderer(raw(pocket_tokenizer, True, adds_eos=True), "auto").prompt(fixture())


def test_a_tokenizer_that_loses_text_is_refused(pocket_tokenizer: Any) -> None:
    cutting = copy.deepcopy(pocket_tokenizer)
    cutting._tokenizer.normalizer = Replace("fox", "")
    with pytest.raises(BadInput, match=r"do not spell its 50 characters; the first that no token holds is 'fox has"):
        Renderer(cutting, "auto").prompt(fixture())


def test_evidence_outside_the_text_is_refused(pocket_tokenizer: Any) -> None:
    given = dataclasses.replace(fixture(), evidence=((500, 510),))
    with pytest.raises(BadInput, match=r"no token holds its evidence at characters \(500, 510\)"):
        Renderer(pocket_tokenizer, "auto").prompt(given)


def test_evidence_of_many_spans_is_every_token_that_overlaps_one(pocket_tokenizer: Any) -> None:
    """Oracle: each token against each span; spans in any order, some overlapping, one within another."""
    text = "The fox has 1234567. What has the fox? Nobody knows what the red fox has."
    spans = ((31, 33), (28, 41), (4, 7), (5, 9), (60, 61), (64, 65), (68, 69))
    given = Fixture(fixture_id="f", prompt=text, answer_prefix="", question_start=0, answers=("x",), evidence=spans)
    prompt = Renderer(pocket_tokenizer, "auto").prompt(given)
    expected = [
        position
        for position, (start, end) in enumerate(prompt.offsets)
        if any(start < stop and first < end for first, stop in spans)
    ]
    assert list(prompt.evidence) == expected
    assert 5 < len(expected) < len(prompt.offsets) - 5


@pytest.mark.parametrize("template", [None, CHAT])
@pytest.mark.parametrize(("question", "start"), [("What has the fox?", 21), (" What has the fox?", 20), ("67. W", 17)])
def test_the_context_ends_before_the_first_token_that_touches_the_question(
    pocket_tokenizer: Any, chatty: Any, template: str | None, question: str, start: int
) -> None:
    """Oracle: character by character; a token that holds a character of the question is no part of the context."""
    given = dataclasses.replace(fixture(), question_start=start)
    prompt = Renderer(chatty if template else pocket_tokenizer, "auto").prompt(given)
    asked = range(prompt.text.index(question), len(prompt.text))
    touched = [any(place in range(*span) for place in asked) for span in prompt.offsets]
    assert touched == [place >= prompt.context_tokens for place in range(len(touched))]
    context = prompt.context()
    assert context.input_ids + prompt.input_ids[prompt.context_tokens :] == prompt.input_ids
    assert context.text == prompt.text[: len(context.text)].removesuffix("W")
    assert set(context.evidence) == {p for p in prompt.evidence if not touched[p]}
    assert len(context.offsets) == len(context.input_ids) == context.context_tokens


@pytest.mark.parametrize("template", [None, CHAT])
def test_no_context_is_no_context_even_behind_a_template(
    pocket_tokenizer: Any, chatty: Any, template: str | None
) -> None:
    renderer = Renderer(chatty if template else pocket_tokenizer, "auto")
    for start in (0, 0 if template else 3):  # the first token is "What", behind the template " W"
        given = fixture("What has the fox? It has 12.", "12")
        prompt = renderer.prompt(dataclasses.replace(given, question_start=start))
        assert prompt.context_tokens == 0
        assert prompt.context().input_ids == ()
    assert renderer.prompt(dataclasses.replace(given, question_start=4)).context_tokens > 0


@pytest.mark.parametrize("template", [None, CHAT])
@pytest.mark.parametrize("prefix", [" The fox has", " The fox has ", "\n"])
def test_the_answers_tokens_continue_the_prompts(
    pocket_tokenizer: Any, chatty: Any, template: str | None, prefix: str
) -> None:
    """Oracle: the text that the tokens of prompt and answer spell together, with one space between the two."""
    tokenizer = chatty if template else pocket_tokenizer
    renderer, given = Renderer(tokenizer, "auto"), dataclasses.replace(fixture(), answer_prefix=prefix)
    prompt = renderer.prompt(given)
    spelled = tokenizer.decode(prompt.input_ids + renderer.answer_ids(given))
    assert spelled.removeprefix("" if template else tokenizer.bos_token).split()[-1] == "1234567"
    assert spelled.endswith((" 1234567", "\n1234567"))
    assert not spelled.endswith(("  1234567", "\n 1234567"))


def test_an_answer_that_would_merge_with_the_prompt_is_tokenized_alone(pocket_tokenizer: Any) -> None:
    renderer = Renderer(pocket_tokenizer, "auto")
    given = dataclasses.replace(fixture(), answer_prefix=" The fox has ", answers=("house",))
    joined = pocket_tokenizer(renderer.prompt(given).text + "house").input_ids
    assert tuple(joined[: len(renderer.prompt(given).input_ids)]) != renderer.prompt(given).input_ids
    assert renderer.answer_ids(given) == tuple(pocket_tokenizer("house", add_special_tokens=False).input_ids)


@pytest.mark.parametrize("answers", [(), (" ",), ("", "12")])
def test_a_first_answer_without_tokens_is_refused(pocket_tokenizer: Any, answers: tuple[str, ...]) -> None:
    given = dataclasses.replace(fixture(), answers=answers)
    with pytest.raises(BadInput, match=r"fixture 'f' has the first answer .*, which has no tokens; outcome.nll=true"):
        Renderer(pocket_tokenizer, "auto").answer_ids(given)
