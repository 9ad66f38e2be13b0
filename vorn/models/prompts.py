"""From a fixture to what the model reads: rendered text, token ids, and where each token stands in the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
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
    """

    text: str
    input_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    evidence: tuple[int, ...]


class Renderer:
    """Renders fixtures for one tokenizer, through its chat template unless that is turned off or missing."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str | bool) -> None:
        """`chat_template`: "auto" uses the tokenizer's own if it has one; False uses the prompt as it is."""
        if chat_template not in ("auto", False):
            raise BadInput(f"model.chat_template={chat_template!r}: legal values are auto and false; choose one")
        self._tokenizer = tokenizer
        self._is_chat = chat_template == "auto" and bool(tokenizer.chat_template)

    def text(self, prompt: str, answer_prefix: str) -> str:
        """What the model reads: user's turn and the beginning of the answer."""
        if not self._is_chat:
            return prompt + answer_prefix
        turn = [{"role": "user", "content": prompt}]
        # Llama 3's templates write today's date unless they are given one; a prompt must not change overnight.
        rendered: Any = self._tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024"
        )
        return str(rendered) + answer_prefix.lstrip()

    def count_tokens(self, prompt: str, answer_prefix: str) -> int:
        """Length in tokens of the rendered prompt."""
        text = self.text(prompt, answer_prefix)
        return len(self._tokenizer(text, add_special_tokens=not self._is_chat, verbose=False).input_ids)

    def prompt(self, fixture: Fixture) -> Prompt:
        """Render and tokenize a fixture, and locate its evidence."""
        text = self.text(fixture.prompt, fixture.answer_prefix)
        shift = text.find(fixture.prompt)
        if shift < 0:
            raise BadInput(
                f"fixture {fixture.fixture_id!r}: the chat template changes the prompt's text, so that its evidence "
                "cannot be located; set model.chat_template=false, or strip white space at the prompt's ends"
            )
        encoded = self._encode(text)
        offsets = tuple((int(start), int(end)) for start, end in encoded.offset_mapping)
        spans = [(start + shift, end + shift) for start, end in fixture.evidence]
        return Prompt(text, tuple(encoded.input_ids), offsets, _overlapping(offsets, spans))

    def _encode(self, text: str) -> Any:
        # A chat template writes the special tokens itself; a second beginning-of-sequence token would be read as text.
        return self._tokenizer(text, add_special_tokens=not self._is_chat, return_offsets_mapping=True, verbose=False)


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
