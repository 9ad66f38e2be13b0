"""The fixtures of a run, and whether model and cells can take them; before any weights are loaded."""

from __future__ import annotations

from itertools import islice

from hydra.utils import instantiate
from omegaconf import DictConfig

from vorn.contracts import make_contracts
from vorn.grading import grade
from vorn.models.checkpoint import Checkpoint
from vorn.models.prompts import Renderer
from vorn.panel import PanelPlan
from vorn.records import BadInput, Fixture
from vorn.settings import check_guards_fit

_LENGTHS = ("lengths", "sequence_tokens", "context_tokens")  # settings of tasks that say how long their prompts are


def read_fixtures(cfg: DictConfig, renderer: Renderer) -> list[Fixture]:
    """The first `limit` fixtures of the task, or as many as the task says; prints what the task notes on them."""
    task = instantiate(cfg.task, count_tokens=renderer.count_tokens)
    fixtures = list(islice(task, cfg.limit if cfg.limit is not None else task.fixtures))
    if not fixtures:
        raise BadInput(f"task={cfg.task.name!r} has 0 fixtures: at least 1 is needed; check its files and its filters")
    if note := getattr(task, "note", lambda taken: "")(len(fixtures)):
        print(f"note: {note}")
    seen: set[str] = set()
    for fixture in fixtures:
        if fixture.fixture_id in seen:
            raise BadInput(
                f"task={cfg.task.name!r}: fixture_id {fixture.fixture_id!r} occurs twice; outcomes are paired by it, "
                "so each must be unique; rename one of them"
            )
        seen.add(fixture.fixture_id)
        _check_gradable(fixture, fixture.grade or str(cfg.task.grade))
    return fixtures


def _check_gradable(fixture: Fixture, rule: str) -> None:
    """Raises BadInput if no completion of the fixture could be graded by the rule."""
    try:
        grade(rule, "", fixture.answers, fixture.choices)
    except BadInput as error:
        raise BadInput(f"fixture {fixture.fixture_id!r} cannot be graded: {error}") from error


def checked_text(cfg: DictConfig, fixture: Fixture, renderer: Renderer, checkpoint: Checkpoint, plan: PanelPlan) -> str:
    """The rendered prompt. Raises BadInput if the model or a cell of the panel cannot take it."""
    prompt, most = renderer.prompt(fixture), checkpoint.context_tokens
    tokens, max_new_tokens = len(prompt.input_ids), fixture.max_new_tokens or int(cfg.task.max_new_tokens)
    answer = len(renderer.answer_ids(fixture)) if cfg.outcome.nll else 0
    if tokens < 2:
        raise BadInput(f"fixture {fixture.fixture_id!r} has {tokens} tokens; a prompt needs at least 2")
    if most is not None and tokens + max(max_new_tokens, answer) > most:
        behind = f"an answer of {answer}" if answer > max_new_tokens else f"max_new_tokens={max_new_tokens}"
        lengths = [f"task.{name}" for name in _LENGTHS if name in cfg.task]
        raise BadInput(
            f"fixture {fixture.fixture_id!r} has {tokens} tokens and {behind}: together more than the {most} "
            f"positions of model {checkpoint.source!r}; shorten the prompts{f' ({lengths[0]})' if lengths else ''} "
            "or choose a model with a longer context"
        )
    for cell, contract in zip(plan.pruned, make_contracts(cell.contract_config for cell in plan.pruned), strict=True):
        counted = contract.budgeted_tokens(fixture, prompt)
        budget = cell.resolve_budget(counted)
        if budget < counted:
            check_guards_fit(budget, *cell.resolve_guards(budget))
    return prompt.text
