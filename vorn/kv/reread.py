"""The tokens that are left of a text, and how a model reads them: all anew after a dropping, then each further one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vorn.kv.capture import Prefill, Reader
from vorn.kv.layout import layout
from vorn.kv.signals import Accumulator, Signal
from vorn.kv.steps import Growing


class ActiveTokens:
    """A prompt's tokens and what follows them, of which some are dropped now and then, and the signals of the rest.

    Attributes:
        ids: of the active tokens.
        positions: theirs in the text, absolute and ascending; a dropped token's is not given to another.
        units: theirs; every token behind the prompt is a unit of its own.
        forwards: of the model; the prompt's own reading is not among them.
        forward_tokens: tokens that were read in them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompt: Prefill,
        input_ids: Sequence[int],
        units: Sequence[int],
        needs: frozenset[Signal],
        at_most: int,
        cached: bool,
        chunk_tokens: int | None,
    ) -> None:
        """Begins with the prompt as it was read.

        Args:
            model: that reads.
            prompt: its reading, with the signals in `needs`.
            input_ids: of the prompt.
            units: of its tokens.
            needs: signals that are asked for when there are more than `at_most` active tokens.
            at_most: tokens that a dropping may leave.
            cached: whether a further token is read over what was stored, or all tokens are.
            chunk_tokens: tokens of one forward at most; None for no limit.
        """
        self.ids, self.positions, self.units = list(input_ids), list(range(len(input_ids))), list(units)
        self.forwards = self.forward_tokens = 0
        self._model, self._plan, self._device = model, layout(model), prompt.last_logits.device
        self._prompt, self._needs, self._at_most, self._cached = prompt, needs, at_most, cached
        self._chunk_tokens = chunk_tokens
        self._next_position = len(input_ids)
        self._before: dict[Signal, Tensor] = {}  # of the growing signals, when tokens were last dropped or read
        self._reader: Reader | None = None
        self._accumulators: dict[Signal, Accumulator] = {}

    def captured(self) -> dict[Signal, Tensor]:
        """The signals of all active tokens, as the forwards since the last dropping have shown them."""
        return {signal: self._states(signal) for signal in self._needs}

    def keep(self, places: Sequence[int]) -> None:
        """Drops all tokens but those at these places."""
        index = torch.tensor(places, device=self._device)
        self._before = {signal: one[..., index.to(one.device)] for signal, one in self._growing().items()}
        self.ids, self.positions, self.units = (
            [values[place] for place in places] for values in (self.ids, self.positions, self.units)
        )

    def read_again(self) -> Tensor:
        """Logits [V] after a dropping. Where nothing is stored, the next token's forward will show what is scored."""
        if self._cached:
            return self._read_all(self._needs, self._at_most + 1)
        return self._read_all(filter(_is_growing, self._needs), len(self.ids))

    def append(self, token: int) -> Tensor:
        """Logits [V] after one more token; now the active tokens can be scored."""
        stored = self._reader if self._cached else None
        if stored is None:
            self._before = self._growing()
        self.ids.append(token)
        self.positions.append(self._next_position)
        self.units.append(self.units[-1] + 1)
        self._next_position += 1
        if stored is not None:
            return self._feed(stored, len(self.ids) - 1)
        return self._read_all(self._needs, self._at_most + 1 if self._cached else len(self.ids))

    def release(self) -> None:
        """Lets go of what was stored; nothing can be read any more."""
        self._reader, self._accumulators, self._before = None, {}, {}

    def _growing(self) -> dict[Signal, Tensor]:
        return {signal: self._states(signal) for signal in filter(_is_growing, self._needs)}

    def _states(self, signal: Signal) -> Tensor:
        return self._accumulators[signal].result() if self.forwards else self._prompt.signals[signal]

    def _read_all(self, signals: Iterable[Signal], tokens: int) -> Tensor:
        """Reads all active tokens into a new cache; `tokens` will have been read when the signals are asked for."""
        shape, read = self._plan.shape, len(self.ids)
        self._accumulators = {
            signal: signal.resumed(shape, tokens, self._before[signal])
            if isinstance(signal, Growing)
            else signal.accumulator(shape, tokens)
            for signal in signals
        }
        self._reader = Reader(self._model, self._plan, list(self._accumulators.values()), read, tokens - read)
        return self._feed(self._reader, 0)

    def _feed(self, reader: Reader, first: int) -> Tensor:
        """Logits after the active tokens from place `first` on, one or more that the reader has not seen."""
        for start in range(first, len(self.ids), self._chunk_tokens or len(self.ids)):
            chunk = slice(start, start + (self._chunk_tokens or len(self.ids)))
            ids, positions = self.ids[chunk], self.positions[chunk]
            self.forwards += 1
            self.forward_tokens += len(ids)
            logits = reader.read(torch.tensor([ids], device=self._device), torch.tensor(positions, device=self._device))
        return logits


def _is_growing(signal: Signal) -> bool:
    return isinstance(signal, Growing)
