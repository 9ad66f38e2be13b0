"""One prefill: an ordinary forward, while the signals that scorers declared are captured beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vorn.kv.cache import PrefillCache
from vorn.kv.layout import Layout, layout
from vorn.kv.override import AttentionFunction, check_arguments, layer_index, overridden_attention
from vorn.kv.recurrent import StateLayers, repeated
from vorn.kv.rotary import LayerRotation
from vorn.kv.signals import Accumulator, AttentionCall, PrefillSignals, Signal
from vorn.records import BadInput


@dataclass(frozen=True, eq=False)
class Prefill:
    """One prompt, read.

    Attributes:
        cache: every position's keys and values, all layers.
        signals: what the scorers asked for.
        last_logits: [V] of the last prompt token.
        seconds: wall time of the forward with capture, device drained.
        states: recurrent states by the number of tokens read, before the last one and after it; empty for a model
            without any.
    """

    cache: PrefillCache
    signals: PrefillSignals
    last_logits: Tensor
    seconds: float
    states: Mapping[int, StateLayers]

    def states_at(self, position: int) -> StateLayers:
        """Recurrent states of the tokens before `position`: the prompt's end, or its last token."""
        return self.states[position] if self.states else {}


def drain(device: torch.device) -> None:
    """Waits until the device has finished, so that a clock reads the work and not its submission."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def residual(layer: int, output: object) -> Tensor:
    """The residual stream [rows, tokens, width] behind a decoder layer, from what the layer returns."""
    states = output[0] if isinstance(output, tuple) and output else output  # some return attention's weights beside it
    if not isinstance(states, Tensor) or states.ndim != 3:
        raise BadInput(
            f"model: the output of its layer {layer} is no residual stream [1, tokens, width]; "
            "choose a policy that does not read it, or another model"
        )
    return states


@torch.inference_mode()
def prefill(
    model: PreTrainedModel,
    input_ids: Tensor,
    signals: frozenset[Signal],
    *,
    chunk_tokens: int | None,
    room: int,
    seed: int,
    evidence: tuple[int, ...] = (),
) -> Prefill:
    """Reads a prompt once and captures the declared signals.

    Args:
        model: in eval mode.
        input_ids: [1, T] int64, on the model's device.
        signals: the union of what the panel's scorers need.
        chunk_tokens: read the prompt in chunks of so many tokens; None for one forward.
        room: positions after the prompt for which the cache has room; tokens that `full` will generate.
        seed: this fixture's integer, see `fixture_seed`.
        evidence: positions of the tokens that a reader needs for the answer.
    """
    _check(model, input_ids, chunk_tokens, room)
    plan, tokens = layout(model), input_ids.shape[1]
    accumulators = {signal: signal.accumulator(plan.shape, tokens) for signal in signals}
    drain(input_ids.device)
    start = perf_counter()
    reader = Reader(model, plan, list(accumulators.values()), tokens, room)
    positions = torch.arange(tokens, device=input_ids.device)
    states: dict[int, StateLayers] = {}
    for chunk in _chunks(tokens, chunk_tokens or tokens, splits_last=bool(plan.states)):
        if plan.states and chunk.stop == tokens:
            states[tokens - 1] = repeated(reader.cache.states, [0]).layers
        logits = reader.read(input_ids[:, chunk], positions[chunk])
    if plan.states:
        states[tokens] = reader.cache.states
    captured = {signal: accumulator.result() for signal, accumulator in accumulators.items()}
    drain(input_ids.device)
    seconds = perf_counter() - start
    if not all(layer.is_initialized for layer in reader.cache.layers):
        raise BadInput("model: some of its layers put no keys and values into the cache they are given; choose another")
    read = PrefillSignals(captured, tokens, plan.shape, seed, input_ids.device, evidence)
    return Prefill(reader.cache, read, logits, seconds, states)


def _chunks(tokens: int, most: int, *, splits_last: bool) -> Iterator[slice]:
    """Of `most` tokens at most; `splits_last`: the last token is one by itself, so that a state before it exists."""
    ends = [*range(most, tokens, most), *([tokens - 1] if splits_last and tokens > 1 else []), tokens]
    for first, end in pairwise([0, *sorted(set(ends))]):
        yield slice(first, end)


def _check(model: PreTrainedModel, input_ids: Tensor, chunk_tokens: int | None, room: int) -> None:
    if model.training:
        raise BadInput(
            "model is in training mode, in which dropout may be random; call model.eval() before the prefill"
        )
    if input_ids.ndim != 2 or input_ids.shape[0] != 1 or input_ids.shape[1] < 1:
        raise BadInput(f"input_ids have shape {tuple(input_ids.shape)}: must be [1, T] with T >= 1; pass one prompt")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise BadInput(f"prefill.chunk_tokens={chunk_tokens}: must be at least 1 token, or null for one forward")
    if room < 0:
        raise BadInput(f"room={room}: must be at least 0 positions; pass the number of tokens to generate")


class Reader:
    """Has a model read tokens, a chunk after another, into one cache, while accumulators see what it computes.

    Args:
        model: in eval mode.
        plan: its layout.
        accumulators: of the signals that are captured.
        tokens: how many the first chunks bring: what a sliding layer no longer sees of them may be forgotten.
        room: tokens that may follow them.
    """

    def __init__(
        self, model: PreTrainedModel, plan: Layout, accumulators: list[Accumulator], tokens: int, room: int
    ) -> None:
        self.cache = PrefillCache(plan, tokens, room)
        self._model = model
        self._feed = _Feed(accumulators, plan, self.cache, model.get_decoder())
        self._seen = 0

    @torch.inference_mode()
    def read(self, chunk: Tensor, positions: Tensor) -> Tensor:
        """Logits [V] of the chunk's last token; the cache grows by the chunk.

        Args:
            chunk: [1, q] token ids.
            positions: [q], ascending, beyond those read before. Where they have gaps, the tokens between were left out:
                RoPE turns by positions, while windows are counted in places, as the model's own masks do.
        """
        self._feed.first, self._feed.positions = self._seen, positions
        self._seen += chunk.shape[1]
        with overridden_attention(self._model, self._feed.observe), self._feed.hooked(self._model.get_decoder().layers):
            logits: Tensor = self._model(
                input_ids=chunk,
                position_ids=positions[None],
                past_key_values=self.cache,  # without one, a gap would be taken for the border of packed texts
                use_cache=True,
                # A tensor, because some models cut the rows of their last layers when this is a number.
                logits_to_keep=torch.tensor([chunk.shape[1] - 1], device=chunk.device),
            ).logits
        return logits[0, -1]


class _Feed:
    """Hands what a model's forwards compute to the accumulators; `first` is the place of the chunk's first token."""

    def __init__(self, accumulators: list[Accumulator], plan: Layout, cache: PrefillCache, decoder: nn.Module) -> None:
        self.decoder = decoder
        self.accumulators = accumulators
        self.plan = plan
        self.cache = cache
        self.first = 0
        self.positions = torch.empty(0)  # of the chunk's tokens

    def observe(self, original: AttentionFunction) -> AttentionFunction:
        """The original attention, which the accumulators see coming."""

        def attention(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            mask: Tensor | None,
            *,
            scaling: float,
            softcap: float | None = None,
            sliding_window: int | None = None,
            **kwargs: object,
        ) -> tuple[Tensor, Tensor | None]:
            check_arguments(kwargs)
            first_key = self.first + query.shape[2] - key.shape[2]
            layer = layer_index(module, self.plan.shape)
            self._check_layer(layer, key, sliding_window)
            rotation = LayerRotation(self.decoder, self.plan.shape.decoder_layer(layer), query.shape[-1])
            call = AttentionCall(
                query, key, value, scaling, softcap, sliding_window, self.first, first_key, rotation, self.positions
            )
            for accumulator in self.accumulators:
                accumulator.on_attention(layer, call)
            known = {"scaling": scaling, "softcap": softcap, "sliding_window": sliding_window}
            return original(module, query, key, value, mask, **known, **kwargs)

        return attention

    def _check_layer(self, layer: int, key: Tensor, sliding_window: int | None) -> None:
        """Raises BadInput where the model does otherwise than its configuration says, on which pruning relies."""
        place = self.plan.shape.cache(layer)
        if sliding_window != self.plan.windows[place]:
            raise BadInput(
                f"model: its layer {layer} attends through a window of {sliding_window} positions, but its "
                f"configuration says {self.plan.windows[place]}; correct sliding_window or layer_types in config.json"
            )
        cache = self.cache.layers[place]
        if key.device != cache.device:
            raise BadInput(
                f"model.device_map: layer {layer} is on {key.device} and layer {place}, whose cache it shares, on "
                f"{cache.device}; give model.device_map=null, or a map that keeps them together"
            )
        if (layer != place or self.plan.states) and not cache.has_handed_out(key):
            own, other = (self.plan.shape.decoder_layer(one) for one in (layer, place))
            raise BadInput(
                f"model: its layer {own} does not read the keys of layer {other}, whose cache it should read by its "
                "configuration; choose another model"
            )

    @contextmanager
    def hooked(self, layers: nn.ModuleList) -> Iterator[None]:
        """Within it, the outputs of the layers that accumulators want are handed to them."""
        with ExitStack() as hooks:
            for index in sorted(frozenset[int]().union(*(a.residual_layers for a in self.accumulators))):
                hooks.callback(layers[index].register_forward_hook(self._hook(index)).remove)
            yield

    def _hook(self, layer: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            states = residual(layer, output)
            for accumulator in self.accumulators:
                if layer in accumulator.residual_layers:
                    accumulator.on_residual(layer, states, self.first)

        return hook
