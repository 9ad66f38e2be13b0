"""What is measured: fixtures, cells' labels, observations, and the hashes that identify them. Pure Python."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REFERENCE = "full"  # label of the cell in which nothing is evicted
RESUME_GRADE = "token_hit@1"  # of a resume, whose outcome is anchor tokens / prompt tokens
_FARTHEST = 1e15  # value on an axis: what a float holds exactly, and neither infinite nor NaN
# What decides a cell's first token: the last prompt token, fed again over its pruned cache, or the prefill's logits.
FIRST_TOKENS = ("refeed", "prefill")


class BadInput(ValueError):
    """A mistake of the user's: the message names the field, the value, what is legal and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Where a fixture stands on a heat map: two named axes and its value on each; fixtures of one place are alike."""

    down: str  # name of the axis that runs down, "depth"
    down_at: float
    across: str  # of the one that runs across, "length_tokens"
    across_at: float

    def __post_init__(self) -> None:
        if not self.down or not self.across or self.down == self.across:
            raise ValueError(f"axes {self.down!r} and {self.across!r}: legal are two names that differ, none empty")
        for name, value in ((self.down, self.down_at), (self.across, self.across_at)):
            if not abs(value) <= _FARTHEST:
                raise ValueError(f"axis {name!r} has {value!r}: legal are numbers within {_FARTHEST:g} of 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture:
    """One prompt with its accepted answers. All spans are (start, end) character offsets into `prompt`, end exclusive.

    The model reads `prompt` (through its chat template as the user's turn, where it has one) followed by
    `answer_prefix`, the beginning of the answer that the model continues.
    """

    fixture_id: str  # unique within a task and stable across processes
    prompt: str
    answer_prefix: str  # "" if the task has none; stands after the assistant's header in a chat template
    question_start: int  # characters; the context is prompt[:question_start]
    answers: tuple[str, ...]
    evidence: tuple[tuple[int, int], ...]  # the spans a reader needs to answer
    cluster: str = ""  # fixtures of one cluster share a context and are not independent; "" if it stands alone
    task: str = ""  # name of the member it is of, where a task is made of several; "" elsewhere
    grade: str = ""  # its own grading rule; "" for the task's
    max_new_tokens: int | None = None  # its own longest completion; None for the task's
    axes: Axes | None = None  # its place on the task's heat map; None if it has none
    choices: tuple[str, ...] = ()  # all texts that are answers to questions of its kind, for grades that look for them
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What one warm resume from snapshots of a recurrent state found; an observation of the second domain has one.

    The prompt's `prompt_tokens` stand in the observation; its outcome is the token hit, anchor_tokens / prompt_tokens.
    """

    matched_tokens: int  # whose KV was known
    anchor_tokens: int  # of the restored state; 0 if none was usable
    replay_tokens: int  # matched - anchor: read once more for the state's sake
    recomputed_tokens: int  # prompt - anchor: all that is read before the first token
    ttft_s: float  # time to the first token
    ttft_law: str  # how it was obtained: the cost law, "affine(...)", or "measured"
    kv_without_state: bool  # something was matched and no state survived
    evictions: int  # since the instance's last measured resume, as the next two
    protection_fired: int | None  # evictions in which the policy's protection changed the victim; None if it has none
    protection_saturated: int | None  # evictions in which everything was protected
    logit_difference: float | None  # largest absolute one to a cold prefill; None where no model was run
    greedy_equal: bool | None  # whether the generated tokens are those after a cold prefill


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractWork:
    """What a contract did of its own for one cell, outside the prefill and the decoding that its cells share.

    Nothing of it is in the observation's `panel_prefill_s`, `prune_s` or `panel_decode_s`.
    """

    seconds: float = 0.0  # wall clock, device drained
    forwards: int = 0  # of the model
    read_tokens: int = 0  # that the model read in them, or after the eviction as the question of `context_once`
    written_tokens: int = 0  # that it generated and that are no part of the completion, as a summary
    evictions: int = 0  # how often something was dropped, where a contract does so more than once
    prefill_is_reused: bool = False  # `panel_prefill_s` was spent for an earlier fixture with the same context


@dataclass(frozen=True, slots=True, kw_only=True)
class FixtureRun:
    """What measuring a fixture took; shared by the cells that were measured together, and not the cost of one."""

    wall_s: float  # of all that was measured of the fixture then, failed tries included
    reserved_bytes: int | None  # peak of the device memory that torch held, used or not; None on a CPU
    is_near_miss: bool | None  # whether that was more than `memory.near_miss` of the device's; None on a CPU
    retries: int  # times it ran out of memory and was tried again with less
    max_cells: int  # decoded in one batch, in the last try
    chunk_tokens: int | None  # of one forward of the prefill, in the last try; None: the whole prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Outcome of one fixture in one cell; one JSON line of a ledger.

    `outcome` is None exactly when `error` is set: a failure is not a wrong answer, and is excluded and counted.
    Times are wall-clock seconds; those of a panel are shared by its cells and are not the cost of one cell. A
    measurement is None where it was not taken, as in results that others have published.
    """

    cell_id: str  # hash of evaluation, policy with parameters, unit, guards, budget, contract
    cell: str  # readable label, `vorn(layer=3)/sentence/64`
    evaluation_id: str  # hash of model, task, decode settings, dtype
    fixture_id: str
    fixture_index: int  # 0-based position in the task's order; sequential tests look in this order
    cluster: str  # of the fixture; "" if it stands alone
    fingerprint: str  # hash of the rendered prompt and the answers
    model: str
    task: str
    contract: str
    policy: str  # name, "full" for the reference
    params: str  # the policy's resolved parameters that differ from its defaults, "layer=3"; "" for none
    unit: str  # with its non-default settings, "sentence(pool=mean)"; "" for the reference
    guards: str  # "matched", "published", "none"; "" for the reference
    budget: str  # as asked: "64" tokens, "25%" of the prompt; "" for the reference
    budget_tokens: int  # resolved for this fixture and contract; the prompt's length for the reference
    replica_of: str  # cell_id of the cell that this one repeats in another batch slot (A/A); "" otherwise
    grade: str  # name and version of the grading rule, "ruler_all@1"
    outcome: float | None  # in [0, 1]; 1.0 is a hit
    completion: str  # raw model output, before answer extraction
    answer_graded: str  # the text that was graded
    answers: tuple[str, ...]
    answer_nll: float | None  # nats, of the first answer, teacher-forced from this cell's cache
    prompt_tokens: int | None
    kept_tokens: float | None  # mean over layers and KV heads
    evidence_tokens: int | None  # prompt tokens that overlap an evidence span
    evidence_kept: float | None  # fraction of them kept, mean over layers and KV heads; None without evidence
    panel_prefill_s: float | None  # shared prefill with capture, device drained
    prune_s: float | None  # scoring, selection and gathering of this cell
    panel_decode_s: float | None  # decoding of all cells of the panel together, device drained
    batch_rows: int | None  # cells decoded together with this one, itself included
    kv_bytes: int | None  # computed from the kept entries, not measured
    peak_bytes: int | None  # peak device memory during the fixture; process peak RSS on a CPU
    error: str | None = None
    resume: Resume | None = None  # of the second domain; None in the first
    subtask: str = ""  # of the fixture, where the task is made of several; "" elsewhere, and in ledgers older than it
    choices: tuple[str, ...] = ()  # of the fixture; () elsewhere, and in ledgers older than it
    contract_work: ContractWork | None = None  # None where the contract has none, and in ledgers older than the field
    fixture_run: FixtureRun | None = None  # None in the second domain, and in ledgers older than the field
    axes: Axes | None = None  # of the fixture; None where its task has none, and in ledgers older than the field

    @property
    def is_resume(self) -> bool:
        """Whether this is of the second domain; a resume that failed has its grade, and nothing else to tell it by."""
        return self.resume is not None or self.grade == RESUME_GRADE

    def __post_init__(self) -> None:
        if (self.outcome is None) != (self.error is not None):
            raise ValueError(
                f"observation of fixture {self.fixture_id!r} in cell {self.cell!r}: outcome={self.outcome!r} with "
                f"error={self.error!r}; exactly one of the two must be None"
            )
        if self.outcome is not None and not 0.0 <= self.outcome <= 1.0:
            raise ValueError(f"outcome={self.outcome!r} of fixture {self.fixture_id!r}: legal values lie in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """First line of every ledger segment: under which circumstances its observations were made."""

    evaluation_id: str
    created: str  # ISO 8601, UTC
    host: str
    pid: int
    rank: int
    config: Mapping[str, Any]  # the resolved configuration of the run
    versions: Mapping[str, str]  # package -> version, "python" among them
    dtype: str
    device: str
    git_revision: str | None  # of the code, with "+dirty" if it had uncommitted changes
    fixtures: int | None = None  # that the run was asked for; None where `config` says it, and in older ledgers


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A report was made, on so many fixtures: whoever extends a run after a look must know of it."""

    evaluation_id: str
    created: str  # ISO 8601, UTC
    fixtures: int  # distinct fixtures with an outcome, at the time


def canonical_json(value: object) -> str:
    """The one text of a JSON-like value: sorted keys, no spaces, no NaN. Raises ValueError or TypeError otherwise."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object, length: int = 16) -> str:
    """First `length` hex digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def fingerprint(prompt: str, answers: tuple[str, ...], choices: tuple[str, ...] = ()) -> str:
    """Hash of what a fixture asks and accepts; a ledger refuses a fixture whose fingerprint changed."""
    return digest([prompt, list(answers), *([list(choices)] if choices else [])])


def to_dict(record: Observation | Manifest | Look) -> dict[str, Any]:
    """The record's fields as JSON-ready values."""
    return dataclasses.asdict(record)
