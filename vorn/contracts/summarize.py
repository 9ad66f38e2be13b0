"""The model compacts the context itself: it writes a summary of it, and answers from that and the question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from vorn.contracts import tokens_of_context
from vorn.records import BadInput, ContractWork, Fixture

if TYPE_CHECKING:
    from vorn.cells import CellSpec
    from vorn.kv.capture import Prefill
    from vorn.models.prompts import Prompt
    from vorn.work import Measured, Work


_REASON = "contract=summarize compacts the context and asks the question after it"


@dataclass(frozen=True)
class Summarize:
    """No cache is pruned and no policy chooses: a budget is the longest summary, in tokens. One cell per budget.

    The full model reads the context and the instruction as a prompt of its own and writes greedily until it ends or the
    budget is spent; then it reads the summary and the question as another prompt, and answers.
    Source: vorn-mat 2589773, local_exec.py, which asks for a summary of its context without the question, too.

    Attributes:
        instruction: text that follows the context and asks for the summary.
        separator: text between summary and question.
    """

    instruction: str
    separator: str

    takes_policies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise BadInput(
                f"contract.summarize.instruction={self.instruction!r}: must ask for a summary; give a text that does"
            )

    @property
    def scores_prompt(self) -> bool:
        """No: nothing is scored."""
        return False

    @property
    def is_batched(self) -> bool:
        """No: they decode one by one."""
        return False

    def check(self, cell: CellSpec) -> None:
        """Nothing: its cells are its own."""

    def budgeted_tokens(self, fixture: Fixture, prompt: Prompt) -> int:
        """Those of the context. Raises BadInput if the fixture has no context, or no question."""
        return tokens_of_context(fixture, prompt, reason=_REASON)

    def release(self) -> None:
        """Nothing is held."""

    def measure(self, work: Work) -> list[Measured]:
        """The context is read once for all cells; each writes a summary and answers by itself."""
        fixture, budgets = work.item.fixture, [self._budget(work, cell) for cell in work.cells.values()]
        context = fixture.prompt[: fixture.question_start].rstrip()
        asking = work.item.render(_bare(fixture, context + self.instruction, answer_prefix=""))
        _check_length(work, len(asking.input_ids), max(budgets))
        read = work.read(asking, frozenset(), seed_text=asking.text, room=max(budgets))
        return [self._cell(work, cell, read, budget) for cell, budget in zip(work.cells.values(), budgets, strict=True)]

    def _budget(self, work: Work, cell: CellSpec) -> int:
        return cell.resolve_budget(work.item.prompt.context_tokens)

    def _cell(self, work: Work, cell: CellSpec, read: Prefill, budget: int) -> Measured:
        from vorn.kv.retention import keep_all
        from vorn.work import Measured

        fixture = work.item.fixture
        written = work.write(read, budget)
        (summary,) = written.cells
        spent = ContractWork(
            seconds=read.seconds + written.seconds,
            forwards=1 + min(len(summary.token_ids), budget - 1),  # the last token of a full budget is not read
            read_tokens=read.signals.prompt_tokens,
            written_tokens=len(summary.token_ids),
        )
        try:
            text = work.text(summary.token_ids).strip()
            question = fixture.prompt[fixture.question_start :].lstrip()
            prompt = self.separator.join(part for part in (text, question) if part)
            asked = work.item.render(_bare(fixture, prompt, fixture.answer_prefix))
        except BadInput as error:  # what the model wrote cannot be a prompt: no mistake of the user's
            return _unanswered(cell, budget, f"{type(error).__name__}: {error}", spent)
        if summary.error:
            return _unanswered(cell, budget, f"summary: {summary.error}", spent)
        answer = work.item.answer_ids
        _check_length(work, len(asked.input_ids), max(work.max_new_tokens, len(answer)))
        again = work.read(asked, frozenset(), seed_text=asked.text, room=max(work.max_new_tokens, len(answer)))
        decoding = work.write(again, work.max_new_tokens, answer)
        (found,) = decoding.cells
        return Measured(
            cell=cell,
            budget_tokens=budget,
            token_ids=found.token_ids,
            error=found.error,
            kept_tokens=float(len(summary.token_ids)),
            evidence_kept=None,
            prefill_s=again.seconds,
            decode_s=decoding.seconds,
            batch_rows=1,
            kv_bytes=again.cache.kv_bytes(keep_all(again.signals.prompt_tokens, again.signals.device)),
            answer_nll=found.answer_nll,
            contract_work=spent,
        )


def _check_length(work: Work, tokens: int, room: int) -> None:
    """Raises ValueError if the model has no positions for so many tokens to read and then to write."""
    most = getattr(work.model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and tokens + room > most:
        raise ValueError(
            f"contract=summarize: a text of {tokens} tokens and up to {room} to write exceed the model's {most} "
            "positions; lower the budget, shorten the prompts or contract.summarize.instruction"
        )


def _bare(fixture: Fixture, prompt: str, answer_prefix: str) -> Fixture:
    """A prompt of its own, in which neither evidence nor a question is looked for."""
    return replace(fixture, prompt=prompt, answer_prefix=answer_prefix, question_start=0, evidence=())


def _unanswered(cell: CellSpec, budget: int, error: str, spent: ContractWork) -> Measured:
    from vorn.work import Measured

    return Measured(
        cell=cell, budget_tokens=budget, error=error, kept_tokens=0.0, evidence_kept=None, prefill_s=0.0, decode_s=0.0,
        batch_rows=0, kv_bytes=0, contract_work=spent,
    )  # fmt: skip
