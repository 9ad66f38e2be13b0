"""From a fixture to what the model reads: rendered text, token ids, and where each token stands in the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from vorn.records import BadInput, Fixture


@dataclass(frozen=True)
class Prompt:
    """A fixture as the model reads it.

    Attributes:
        text: the rendered prompt.
        input_ids: T token ids.
        offsets: (start, end) characters in `text` of each token, end exclusive.
        evidence: positions of the tokens that overlap the fixture's evidence, ascending.
        context_tokens: tokens before the first one that touches the question, a chat template's included; 0 if the
            fixture does not tell context and question apart, or if no token of its own stands before the question.
    """

    text: str
    input_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    evidence: tuple[int, ...]
    context_tokens: int = 0

    def context(self) -> Prompt:
        """What stands before the question's first token, as a prompt of its own."""
        tokens = self.context_tokens
        return Prompt(
            self.text[: self.offsets[tokens - 1][1]] if tokens else "",
            self.input_ids[:tokens],
            self.offsets[:tokens],
            tuple(position for position in self.evidence if position < tokens),
            tokens,
        )


class Renderer:
    """Renders fixtures for one tokenizer, through its chat template unless that is turned off or missing."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | bool,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes the settings of a model.

        Args:
            tokenizer: a fast one, which tells offsets.
            chat_template: "auto" uses the tokenizer's own if it has one; False uses the prompt as it is.
            template_arguments: what the chat template is given besides the messages; None leaves it to the template.
        """
        if chat_template not in ("auto", False):
            raise BadInput(f"model.chat_template={chat_template!r}: legal values are auto and false; choose one")
        self._tokenizer = tokenizer
        self._is_chat = chat_template == "auto" and bool(tokenizer.chat_template)
        given = (template_arguments or {}).items()
        self._arguments = {name: value for name, value in given if value is not None}

    def text(self, prompt: str, answer_prefix: str) -> str:
        """What the model reads: user's turn and the beginning of the answer."""
        if not self._is_chat:
            return prompt + answer_prefix
        turn = [{"role": "user", "content": prompt}]
        rendered: Any = self._tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True, **self._arguments
        )
        return str(rendered) + answer_prefix.lstrip()

    def count_tokens(self, prompt: str, answer_prefix: str) -> int:
        """Length in tokens of the rendered prompt."""
        text = self.text(prompt, answer_prefix)
        return len(self._tokenizer(text, add_special_tokens=not self._is_chat, verbose=False).input_ids)

    def answer_ids(self, fixture: Fixture) -> tuple[int, ...]:
        """The first answer's tokens as they would follow the prompt, behind a space unless the prompt ends in one.

        Prompt and answer are tokenized as one text; where a token would hold characters of both, so that the model
        could not have read the prompt as it did, the answer is tokenized alone.
        Raises: BadInput for a fixture whose first answer has no tokens.
        """
        text = self.text(fixture.prompt, fixture.answer_prefix)
        answer = (fixture.answers[0] if fixture.answers else "").strip()
        answer = answer if text[-1:].isspace() else f" {answer}"
        alone = self._tokenizer(text, add_special_tokens=not self._is_chat, verbose=False).input_ids
        joined = self._tokenizer(text + answer, add_special_tokens=not self._is_chat, verbose=False).input_ids
        ids = joined[len(alone) :]
        if joined[: len(alone)] != alone:
            ids = self._tokenizer(answer, add_special_tokens=False, verbose=False).input_ids
        if not answer.strip() or not ids:
            raise BadInput(
                f"fixture {fixture.fixture_id!r} has the first answer {fixture.answers[:1]}, which has no tokens; "
                "outcome.nll=true needs one whose likelihood can be told; give it, or outcome.nll=false"
            )
        return tuple(ids)

    def prompt(self, fixture: Fixture) -> Prompt:
        """Render and tokenize a fixture, and locate its evidence.

        Raises: BadInput if the model would not read just this text, or the evidence cannot be located in it.
        """
        name, text = f"fixture {fixture.fixture_id!r}", self.text(fixture.prompt, fixture.answer_prefix)
        shift = text.find(fixture.prompt)
        if shift < 0:
            raise BadInput(
                f"{name}: the chat template changes the prompt's text, so that its evidence "
                "cannot be located; set model.chat_template=false, or strip white space at the prompt's ends"
            )
        encoded = self._encode(text)
        ids, offsets = tuple(encoded.input_ids), tuple((int(a), int(b)) for a, b in encoded.offset_mapping)
        self._check(name, text, ids, offsets)
        spans = [(start + shift, end + shift) for start, end in fixture.evidence]
        ends = [end for _, end in offsets]
        for first, stop in spans:
            token = bisect_right(ends, first)  # the first one that ends after the span's start
            if token == len(offsets) or offsets[token][0] >= stop or first >= stop:
                raise BadInput(
                    f"{name}: no token holds its evidence at characters {(first, stop)}; give a span in its text"
                )
        question = bisect_right(ends, shift + fixture.question_start) if fixture.question_start else 0
        context = question if question and ends[question - 1] > shift else 0
        return Prompt(text, ids, offsets, _overlapping(offsets, spans), context)

    def _encode(self, text: str) -> Any:
        # A chat template writes the special tokens itself; a second beginning-of-sequence token would be read as text.
        return self._tokenizer(text, add_special_tokens=not self._is_chat, return_offsets_mapping=True, verbose=False)

    def _check(self, name: str, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> None:
        """Raises BadInput unless the tokens are the text, behind at most one beginning-of-sequence token."""
        tokenizer = self._tokenizer
        if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
            writer = "template" if self._is_chat else "prompt"
            raise BadInput(
                f"{name}: begins with two tokens {tokenizer.bos_token!r}: the {writer} writes one as well as the "
                "tokenizer; leave it out of the prompt, or set add_bos_token=false in its tokenizer_config.json"
            )
        if offsets and offsets[-1][0] == offsets[-1][1] and ids[-1] == tokenizer.eos_token_id:
            raise BadInput(
                f"{name}: the tokenizer ends the prompt with {tokenizer.eos_token!r}, after which a model begins "
                "another text; set add_eos_token=false in the checkpoint's tokenizer_config.json"
            )
        read = bytearray(len(text))
        for start, end in offsets:
            read[start:end] = b"\x01" * (end - start)
        lost = next((place for place, char in enumerate(text) if not read[place] and not char.isspace()), None)
        if len(offsets) != len(ids) or len(read) != len(text) or lost is not None:
            raise BadInput(
                f"{name}: its {len(ids)} tokens with {len(offsets)} offsets do not spell its {len(text)} characters; "
                f"the first that no token holds is {'none' if lost is None else repr(text[lost : lost + 20])}; "
                "the tokenizer cuts or changes the text: a tokenizer with true offsets is needed"
            )


def _overlapping(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Positions of the tokens that overlap a span, ascending."""
    merged: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if merged and first < merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        elif first < stop:
            merged.append((first, stop))
    stops = [stop for _, stop in merged]
    found = []
    for position, (start, end) in enumerate(offsets):
        next_span = bisect_right(stops, start)  # the first one that ends after the token's start
        if next_span < len(merged) and merged[next_span][0] < end:
            found.append(position)
    return tuple(found)
