"""The executed engine: a real model resumes from real snapshots; measured resumes are held to a cold prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from transformers import DynamicCache, PreTrainedModel

from vorn.snapshots.cold import ColdPrefill
from vorn.snapshots.cost import Affine
from vorn.snapshots.engine import Outcome
from vorn.snapshots.entry import Role
from vorn.snapshots.index import SnapshotIndex
from vorn.snapshots.paths import Path, PrefixKey
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import KnownKV, Request
from vorn.snapshots.simulate import Pool, Resumed, start_index
from vorn.snapshots.states import KV, Reader, State, keys_and_values, probe, restore, snapshot
from vorn.snapshots.tiny import load_model

_UNIT_COST = Affine(0.0, 1.0)  # policies that weigh compute count tokens


@dataclass(frozen=True, eq=False)
class Stored:
    """A state with the KV of the sequence it was taken from, and what it must be restored for."""

    state: State
    kv: KV
    key: PrefixKey
    cuts: tuple[int, ...]  # where the readings ended that led to it, from the beginning of the sequence


@dataclass
class Executed:
    """Runs requests on a model, in float32.

    Attributes:
        cold: what resumes are held to, with the reader of the model, which was probed before.
        placement: where snapshots are taken.
        name: of the model, in records.
    """

    cold: ColdPrefill
    placement: Placement
    name: str
    law: str = "measured"
    dtype: str = "float32"

    @property
    def device(self) -> str:
        """Where the model is."""
        return str(self.cold.reader.model.device)

    def run(self, pool: Pool, requests: Sequence[Request]) -> Sequence[Outcome]:
        """One outcome per request; those that are not measured are read, but not compared."""
        return _Run(self, pool, requests).outcomes(requests)


class _Run:
    """One instance in one pool."""

    def __init__(self, engine: Executed, pool: Pool, requests: Sequence[Request]) -> None:
        self._engine = engine
        self._pool = pool
        self._index: SnapshotIndex = start_index(pool, requests, engine.placement, _UNIT_COST)
        self._stored: dict[int, Stored] = {}  # by snapshot id
        self._since = (0, 0, 0)

    def outcomes(self, requests: Sequence[Request]) -> list[Outcome]:
        known, found = KnownKV(self._engine.placement), []
        for request in requests:
            found.append(self._serve(request, known.match(request)))
            known.store(request)
        return found

    def _serve(self, request: Request, matched: int) -> Outcome:
        """Look up, restore, read on to the end of the prompt, generate, store."""
        engine, index, reader = self._engine, self._index, self._engine.cold.reader
        ids = engine.cold.ids(request.full)
        prompt = request.prompt.tokens
        match = index.lookup(request.prompt, matched, request.session)
        index.evictor.served()
        resumed = self._resumed(request, matched, match.anchor)
        wanted = engine.placement.depths(anchor=match.anchor, matched=matched, prompt=prompt, total=request.total)
        start = perf_counter()
        cache, cuts = reader.fresh(), list[int]()
        if match.snapshot is not None:
            stored = self._stored[match.snapshot.snapshot_id]
            cache, cuts = _restored(reader, stored, match.snapshot.key, request.prompt), list(stored.cuts)
        states: dict[int, State] = {}
        depth, logits = match.anchor, torch.empty(0)
        for stop in sorted({prompt, *(one for one, _ in wanted if one < prompt)}):
            logits = reader.read(ids[depth:stop], cache, depth)
            states[stop], depth = snapshot(cache, stop), stop
            cuts.append(stop)
        _drain(reader.model)
        resumed = replace(resumed, seconds=perf_counter() - start)
        outcome = engine.cold.compared(request, resumed, states[prompt], keys_and_values(cache), logits, cuts)
        for stop in [one for one, _ in wanted if one > prompt]:
            reader.read(ids[depth:stop], cache, depth)
            states[stop], depth = snapshot(cache, stop), stop
            cuts.append(stop)
        kv = keys_and_values(cache)
        for place, role in wanted:
            self._store(request, role, states[place], kv, cuts)
        return outcome

    def _store(self, request: Request, role: Role, state: State, kv: KV, cuts: Sequence[int]) -> None:
        size = self._pool.snapshot_bytes
        done = self._index.insert(request.full, state.depth, request.session, role, size)
        for gone in [*(one.snapshot_id for one in done.evicted), done.replaced_id]:
            if gone is not None:
                del self._stored[gone]
        until = tuple(cut for cut in cuts if cut <= state.depth)
        self._stored[done.snapshot.snapshot_id] = Stored(state, kv, done.snapshot.key, until)

    def _resumed(self, request: Request, matched: int, anchor: int) -> Resumed:
        evictor, prompt = self._index.evictor, request.prompt.tokens
        now = (self._index.evictions, evictor.fired, evictor.saturated)
        before = self._since
        if request.measured:
            self._since = now
        return Resumed(
            prompt=prompt,
            matched=matched,
            anchor=anchor,
            replay=matched - anchor,
            recomputed=prompt - anchor,
            seconds=0.0,
            evictions=now[0] - before[0],
            fired=now[1] - before[1] if evictor.protects else None,
            saturated=now[2] - before[2] if evictor.protects else None,
        )


def _restored(reader: Reader, stored: Stored, key: PrefixKey, prompt: Path) -> DynamicCache:
    """The cache of a stored state, after its key and depth were checked against the request once more."""
    depth = stored.state.depth
    if stored.key != key or depth != key.depth or prompt.key(depth) != stored.key:
        raise RuntimeError(f"a state of other tokens stands where {key} was stored: the index and the store disagree")
    return restore(reader, stored.state, stored.kv)


def _drain(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def load_engine(
    placement: Placement,
    *,
    model: str,
    revision: str | None,
    device: str,
    tolerance: float,
    new_tokens: int,
    probe_tokens: int,
    name: str,
) -> Executed:
    """The engine on a model that passed the probe.

    `model` is `tiny/FAMILY`, a local folder, or a Hub id; it runs in float32, since half precision cannot be held equal
    to anything. The other arguments are described in conf/engine/executed.yaml.
    Raises: BadInput for a model that loses its recurrent state, with the reason.
    """
    loaded = load_model(model, revision)
    reader = Reader(loaded.to(device))
    vocabulary = int(loaded.config.get_text_config().vocab_size)
    probe(reader, probe_tokens, tolerance, vocabulary)
    return Executed(ColdPrefill(reader, tolerance, new_tokens, vocabulary), placement, name)
