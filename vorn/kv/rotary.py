"""Rotary position embedding: what a model's layers turn queries and keys by, and turning them back."""

from __future__ import annotations

import inspect
from typing import Protocol

import torch
from torch import Tensor, nn

from vorn.records import BadInput

# Kinds whose angles depend on the length of the text, so that they are no function of the position alone.
_LENGTH_DEPENDENT = ("dynamic", "longrope")


class Rotation(Protocol):
    """The tables of one layer."""

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [n, D] float32 of n positions; both hold a scale if the model's RoPE has one."""


def rotate(states: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """[..., n, D] turned by the tables' angles: dimension d is paired with d + D / 2."""
    cos, sin = tables
    left, right = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-right, left], dim=-1) * sin


def rotate_back(states: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """What `rotate` made these states of, the scale undone."""
    cos, sin = tables
    return rotate(states, (cos, -sin)) / (cos.square() + sin.square())


class LayerRotation:
    """The tables of decoder layer `layer`, computed by the model's own module.

    Raises: BadInput, when tables are asked for, if the model has no RoPE of the known kind: pairs (d, d + D / 2) over
        the whole head, by angles that depend on nothing but the position.
    """

    def __init__(self, decoder: nn.Module, layer: int, head_width: int) -> None:
        self.decoder, self.layer, self.head_width = decoder, layer, head_width

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [n, D] float32 of positions [n]."""
        module = getattr(self.decoder, "rotary_emb", None)
        if module is None:
            raise self._unknown("it has none")
        types = getattr(self.decoder.config, "layer_types", None)
        takes_type = "layer_type" in inspect.signature(module.forward).parameters
        own_type = {"layer_type": types[self.layer]} if takes_type and types else {}
        kinds = module.rope_type if isinstance(module.rope_type, dict) else {"": module.rope_type}
        kind = kinds.get(own_type.get("layer_type", ""), "none")
        if kind in _LENGTH_DEPENDENT:
            raise self._unknown(f"it is {kind!r}, which depends on the length of the text")
        like = torch.zeros(1, dtype=torch.float32, device=positions.device)
        cos, sin = module(like, positions[None], **own_type)
        if cos.shape[-1] != self.head_width or not self._pairs_halves():
            raise self._unknown(f"it turns {cos.shape[-1]} of {self.head_width} dimensions, or other pairs")
        return cos[0], sin[0]

    def _pairs_halves(self) -> bool:
        """Whether the architecture pairs dimension d with d + D / 2; some pair neighbours."""
        own = getattr(inspect.getmodule(type(self.decoder)), "rotate_half", None)
        return own is not None and torch.equal(own(torch.arange(4.0)), torch.tensor([-2.0, -3.0, 0.0, 1.0]))

    def _unknown(self, reason: str) -> BadInput:
        return BadInput(
            f"model: the rotary position embedding of layer {self.layer} of {type(self.decoder).__name__} cannot be "
            f"undone ({reason}); leave out the policies that need it (expected_attention, streaming_llm), or choose "
            "another model"
        )
