"""Contracts: when eviction happens, and what is seen then. A file and a yaml each; importing them loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from hydra.utils import get_class

from vorn.records import BadInput, Fixture, canonical_json

if TYPE_CHECKING:
    from vorn.cells import CellSpec
    from vorn.models.prompts import Prompt
    from vorn.work import Measured, Work


class Contract(Protocol):
    """What turns a fixture and the cells under this contract into outcomes; made from `_target_` and its settings.

    A class that says `takes_policies = False` gets one cell per budget, with no policy, unit or guards. One whose
    settings may leave others without effect names these in `idle_settings`: they make no other cell then.

    One object serves a whole run, so that it may hold what one fixture can leave for the next. It is built where no
    model is loaded, so that its module must not import torch; what needs torch comes with the `Work`, or is imported
    inside a method.
    """

    @property
    def scores_prompt(self) -> bool:
        """Whether its cells are scored on the shared prefill of the whole prompt, which then captures their signals."""

    @property
    def is_batched(self) -> bool:
        """Whether its cells decode together, so that a cell in another slot (A/A) shows the noise of that."""

    def check(self, cell: CellSpec) -> None:
        """Raises BadInput for a cell that cannot be measured under it, naming policy and contract."""

    def budgeted_tokens(self, fixture: Fixture, prompt: Prompt) -> int:
        """Tokens of a prompt from which budget and guards choose; a budget's percentage is one of them.

        Raises: BadInput, naming the fixture, if it cannot be measured under this contract.
        """

    def release(self) -> None:
        """Let go of what is held for later fixtures: memory ran short."""

    def measure(self, work: Work) -> list[Measured]:
        """One result per cell of the work, in its order.

        A cell that fails by itself has an `error`, and is tried again with less if it says `is_short`: of memory.

        Raises: BadInput if model and settings do not fit, which ends the run. Any other exception makes an error of
            each of these cells on this fixture, and of no other cell.
        """


def make_contracts(configs: Iterable[Mapping[str, Any]]) -> list[Contract]:
    """The contract of each configuration (`_target_` and settings); equal ones are one object.

    Raises: BadInput for a setting that is unknown or out of range.
    """
    made: dict[str, Contract] = {}
    found = []
    for config in configs:
        key = canonical_json(config)
        if key not in made:
            made[key] = _make(config)
        found.append(made[key])
    return found


def takes_policies(contract: Contract) -> bool:
    """Whether a policy chooses what its cells keep."""
    return bool(getattr(contract, "takes_policies", True))


def idle_settings(contract: Contract) -> frozenset[str]:
    """Names of the settings that change nothing beside the others that it was given."""
    return frozenset(getattr(contract, "idle_settings", ()))


def _make(config: Mapping[str, Any]) -> Contract:
    settings = {name: value for name, value in config.items() if name != "_target_"}
    try:
        contract: Contract = get_class(config["_target_"])(**settings)
    except TypeError as error:
        known = f"give the settings of {config['_target_']}"
        raise BadInput(f"contract settings {settings} are not legal ({error}); {known}") from error
    return contract


def tokens_of_context(fixture: Fixture, prompt: Prompt, *, reason: str) -> int:
    """Tokens before the question, for a contract that treats them apart.

    Args:
        fixture: is named in the message.
        prompt: of the fixture.
        reason: begins with the contract and ends with what it needs them apart for.
    Raises: BadInput if there is no context, or no question.
    """
    if not 0 < prompt.context_tokens < len(prompt.input_ids):
        raise BadInput(
            f"fixture {fixture.fixture_id!r} has question_start={fixture.question_start}, which leaves "
            f"{prompt.context_tokens} of its {len(prompt.input_ids)} tokens to the context; {reason}; give fixtures "
            "with both (task=jsonl: the keys context and question), or choose another contract"
        )
    return prompt.context_tokens
