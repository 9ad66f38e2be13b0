"""What rows that decode together ask of a layer, and attention over a cache of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vorn.kv.signals import ModelShape
from vorn.records import BadInput


@dataclass(frozen=True, eq=False)
class Query:
    """What a forward asks of one layer for a group of rows, after RoPE.

    Attributes:
        query: [rows, H, q, D].
        key: [rows, Hkv, q, D] of the same tokens.
        value: [rows, Hkv, q, Dv], likewise.
        layer: of the model.
        fed: tokens that were fed before.
        positions: of the tokens.
        window: positions that a query sees, its own included; None if it hides nothing.
        scaling: factor on the dot products.
        softcap: s becomes softcap * tanh(s / softcap) before the softmax; None for none.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    layer: int
    fed: int
    positions: range
    window: int | None
    scaling: float
    softcap: float | None

    def refuse_window(self) -> None:
        """Raises BadInput, for rows whose entries have new positions, if a window hides some of the old ones."""
        if self.window is not None:
            raise BadInput(
                f"positions=compact: layer {self.layer} sees only the last {self.window} positions, in "
                "which entries of new positions would stand again; choose a model without sliding windows, "
                "shorter prompts, or a policy without positions=compact"
            )

    def attend(self, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Attention output [rows, q, H, D] over [rows, Hkv, slots, D]; `bias` hides slots with -inf."""
        if self.softcap is not None:
            return self.weighted(values, self.weights(keys, bias))
        output = scaled_dot_product_attention(
            self._packed(keys), keys, values, attn_mask=self._of_rows(keys, bias), scale=self.scaling
        )
        return self._unpacked(output)

    def weights(self, keys: Tensor, bias: Tensor | None) -> Tensor:
        """Attention weights [rows, Hkv, H // Hkv * q, slots] float32."""
        scores = self._packed(keys) @ keys.transpose(2, 3) * self.scaling
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        seen = self._of_rows(keys, bias)
        return torch.softmax(scores if seen is None else scores + seen, dim=-1, dtype=torch.float32)

    def weighted(self, values: Tensor, weights: Tensor) -> Tensor:
        """Attention output [rows, q, H, D] by these weights."""
        return self._unpacked(weights.to(values.dtype) @ values)

    def _packed(self, keys: Tensor) -> Tensor:
        """The queries of a group of heads as rows of their KV head, which thus need not be repeated."""
        return self.query.reshape(len(keys), keys.shape[1], -1, keys.shape[3])

    def _of_rows(self, keys: Tensor, bias: Tensor | None) -> Tensor | None:
        """The masks of `_packed`, of which those of several queries stand once for each head of the group."""
        if bias is None or bias.shape[2] == 1:
            return bias
        return bias.repeat(1, 1, self.query.shape[1] // keys.shape[1], 1)

    def _unpacked(self, output: Tensor) -> Tensor:
        return output.reshape(*self.query.shape[:3], -1).transpose(1, 2)


def readers(shape: ModelShape) -> list[int]:
    """How many layers read each cache."""
    return [sum(shape.cache(layer) == cache for layer in range(shape.layers)) for cache in range(shape.caches)]
