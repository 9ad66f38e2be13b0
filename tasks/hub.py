"""Fixtures from data sets of the Hugging Face Hub, or from folders of the same form, through the library `datasets`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.jsonl import occurrences
from vorn.records import BadInput, Fixture

# Where the question of each of RULER's templates begins.
_QUESTION = re.compile(
    r"\s(?:What (?:is|are all) the special magic |Question: Find all variables |Question: What are the \d+ most common "
    r"|Question: Do not provide any explanation|Answer the question based on the given documents\.)"
)


@dataclass(frozen=True, kw_only=True)
class RulerHub:
    """RULER's prompts as somebody made them for one tokenizer: rows with `index`, `input` and `outputs`.

    The id of a row is `{config}-{index}`. The row's text is the user's turn, the beginning of the answer that may stand
    at its end included; an `answer_prefix` in a column of its own begins the assistant's. Evidence are the needles that
    hold an answer, where there are any, and otherwise all places of an answer in the context.

    Attributes:
        name: of the task.
        grade: rule of `vorn.grading` for the completions.
        max_new_tokens: completions end there, if not before.
        source: name of the data set on the Hub, or a folder.
        config: of the data set, or several.
        split: of the data set; a slice like `validation[:50]` too.
        fixtures: how many a run takes unless its `limit` says otherwise.
        count_tokens: not needed.
    """

    name: str
    grade: str
    max_new_tokens: int
    source: str
    config: str | Sequence[str]
    split: str
    fixtures: int
    count_tokens: Callable[[str, str], int]

    def __iter__(self) -> Iterator[Fixture]:
        configs = [self.config] if isinstance(self.config, str) else self.config
        for config in configs:
            for row in load_rows(self.source, config, self.split):
                fixture = _fixture(row, config)
                yield replace(fixture, task=config) if len(configs) > 1 else fixture


def load_rows(source: str, config: str, split: str) -> Iterable[Mapping[str, Any]]:
    """Rows of a data set.

    The Hub is asked once whether it answers, for `vorn.reach.TIMEOUT_S`; otherwise the local cache is read.

    Raises: BadInput if `datasets` is not installed, or has no such data set, config or split.
    """
    _check_place(source)
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f"task.source={source!r} is read with the package datasets, which is not installed; install it: "
            "pip install 'vorn[hub]'"
        ) from error
    unreachable = _unreachable(source, datasets.config) if _is_on_the_hub(source) else None
    try:
        with _offline(datasets.config) if unreachable else nullcontext():
            rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(source, config, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        where = f"task.source={source!r}, config {config!r}, split {split!r} cannot be loaded"
        if unreachable:
            raise BadInput(
                f"{where}: the Hub cannot be reached ({unreachable}), and the local cache does not hold it ({said}); "
                "connect to the network (and unset HF_HUB_OFFLINE), or download it elsewhere (hf download "
                f"{source} --repo-type dataset --local-dir DIR) and give task.source=DIR"
            ) from error
        raise BadInput(f"{where} ({said}); give a data set of the Hub or a folder that has them") from error
    return rows


def _check_place(source: str) -> None:
    """Raises BadInput for a file, and for what looks like a folder but is none."""
    path = Path(source)
    if path.is_file():
        raise BadInput(f"task.source={source!r} is a file; give the folder that it is in: task.source={path.parent}")
    if not path.exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise BadInput(
            f"task.source={source!r}: there is no such folder; give the folder with the data, or a data set of the "
            "Hugging Face Hub such as organisation/name"
        )


def _is_on_the_hub(source: str) -> bool:
    return not Path(source).exists() and source.count("/") <= 1


def _unreachable(source: str, settings: Any) -> str | None:
    """Why the Hub does not answer, or None: what it answers, a refusal too, is for the library to tell."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from vorn import reach

    if settings.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set"
    try:
        HfApi(endpoint=settings.HF_ENDPOINT).dataset_info(source, timeout=reach.TIMEOUT_S)
    except HFValidationError:
        return None
    except HfHubHTTPError as error:
        return None if 400 <= error.response.status_code < 500 else reach.reason(error)
    except reach.NO_ANSWER as error:
        return reach.reason(error)
    return None


@contextmanager
def _offline(settings: Any) -> Iterator[None]:
    """The library reads its cache alone meanwhile; it would try to reach the Hub again and again."""
    before, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = before


def _fixture(row: Mapping[str, Any], config: str) -> Fixture:
    where = f"{config}-{row.get('index')}"
    text, answers, prefix = row.get("input"), row.get("outputs"), row.get("answer_prefix") or ""
    if type(row.get("index")) is not int or not isinstance(text, str) or not isinstance(answers, list) or not answers:
        raise BadInput(
            f"row {where} has the columns {sorted(row)}; legal are index (a number), input (a text) and outputs (a "
            "list of texts); give a data set of that form"
        )
    questions = list(_QUESTION.finditer(text))
    if not questions:
        raise BadInput(f"row {where} has no question of RULER's in its input; give RULER's data, or use task=jsonl")
    start = questions[-1].start()
    texts = tuple(str(answer) for answer in answers)
    return Fixture(
        fixture_id=where,
        prompt=text,
        answer_prefix=str(prefix),
        question_start=start,
        answers=texts,
        evidence=tuple(sorted({span for answer in texts for span in _evidence(answer, text[:start])})),
        metadata={"config": config, "answer_prefix_turn": "assistant" if prefix else "user"},
    )


def _evidence(answer: str, context: str) -> list[tuple[int, int]]:
    needles = re.finditer(rf"One of the special magic \w+ for \S+ is: {re.escape(answer)}\.", context)
    return [match.span() for match in needles] or occurrences(answer, context)
