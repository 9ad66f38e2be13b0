"""What an executed resume is held to: a cold prefill of the same prompt, read by the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vorn.snapshots.engine import Outcome
from vorn.snapshots.paths import Path, PrefixKey
from vorn.snapshots.requests import Request
from vorn.snapshots.simulate import Resumed
from vorn.snapshots.states import KV, Agreement, Reader, State, largest_difference, read_in_pieces, restore


@dataclass(frozen=True, eq=False)
class _Cold:
    """What a prefill without any snapshot gives."""

    logits: Tensor
    tokens: tuple[int, ...]


@dataclass
class ColdPrefill:
    """The logits and greedy tokens after each prompt without any snapshot.

    Attributes:
        reader: of the model.
        tolerance: largest difference of a logit to a cold prefill; a resume beyond it is an error, unless it lies
            within it of a cold read in the same pieces and those differ from the prefill by rounding alone.
        new_tokens: greedy tokens compared with those after a cold prefill.
        vocabulary: token ids are drawn below it.
    """

    reader: Reader
    tolerance: float
    new_tokens: int
    vocabulary: int
    _known: dict[PrefixKey, _Cold] = field(default_factory=dict)

    def ids(self, path: Path) -> list[int]:
        """The tokens of a sequence: those of a segment depend on its name alone."""
        found: list[int] = []
        for name, start, end in zip(path.names, (0, *path.ends), path.ends, strict=False):
            seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
            generator = torch.Generator().manual_seed(seed)
            found += torch.randint(self.vocabulary, (end - start,), generator=generator).tolist()
        return found

    def of(self, request: Request) -> _Cold:
        """The reference of a request; computed once for all cells."""
        key = request.prompt.key(request.prompt.tokens)
        if key not in self._known:
            ids, cache = self.ids(request.prompt), self.reader.fresh()
            logits = self.reader.read(ids, cache, 0)
            tokens = self.reader.generate(logits, cache, len(ids), self.new_tokens)
            self._known[key] = _Cold(logits, tuple(tokens))
        return self._known[key]

    def _agreement(self, request: Request, logits: Tensor, cuts: Sequence[int]) -> Agreement:
        """Of the logits after a prompt whose reading ended at `cuts`; pieces are read only where that can matter."""
        cold = self.of(request)
        whole = largest_difference(logits, cold.logits)
        if whole <= self.tolerance or len(cuts) == 1:
            return Agreement(whole, pieces=whole, lost=0.0)
        pieces, lost = read_in_pieces(self.reader, self.ids(request.prompt), cuts)
        return Agreement(whole, largest_difference(logits, pieces), largest_difference(lost, cold.logits))

    def compared(
        self, request: Request, resumed: Resumed, state: State, kv: KV, logits: Tensor, cuts: Sequence[int]
    ) -> Outcome:
        """Against the cold prefill, on a copy of the state, so that the request goes on undisturbed."""
        if not request.measured:
            return Outcome(resumed=resumed)
        cold = self.of(request)
        cache = restore(self.reader, state, kv)
        tokens = tuple(self.reader.generate(logits, cache, request.prompt.tokens, self.new_tokens))
        found = self._agreement(request, logits, cuts)
        problem = None
        if not found.is_exact(self.tolerance) or tokens != cold.tokens:
            equal = "equal" if tokens == cold.tokens else "different"
            problem = (
                f"the resume is not exact: a logit differs by {found.whole:.2g} from a cold prefill and by "
                f"{found.pieces:.2g} from a cold read in the same pieces ({self.tolerance:g} is legal; an emptied "
                f"state makes {found.lost:.2g}), greedy tokens are {equal}"
            )
        return Outcome(
            resumed=resumed,
            logit_difference=found.whole,
            greedy_equal=tokens == cold.tokens,
            completion=" ".join(map(str, tokens)),
            problem=problem,
        )
