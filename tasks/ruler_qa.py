"""RULER's question answering (arXiv:2404.06654): questions of SQuAD or HotpotQA among paragraphs of other questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.drafts import Draft, Generated, Writing
from vorn.records import BadInput, Fixture

_ASK = "Answer the question based on the given documents. Only give me the answer and do not output any other words."


@dataclass(frozen=True, kw_only=True)
class RulerQa(Generated):
    """A question, the documents that answer it, and as many other documents as fit, in random order.

    Source: RULER c3f5e3b, scripts/data/synthetic/qa.py. Fixture i asks question i of the file; there is an end to them.
    Of SQuAD, questions that cannot be answered are left out, and paragraphs of the same article come in first. Of
    HotpotQA, a question brings its ten paragraphs along; evidence are its supporting ones where the file names them.

    Attributes:
        source: the data set as published: SQuAD 2.0's `dev-v2.0.json` or HotpotQA's `hotpot_dev_distractor_v1.json`.
    """

    source: str | None

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        if not isinstance(self.source, str) or not self.source:
            raise BadInput(
                f"task.source={self.source!r}: {self.name} asks questions of a data set that does not ship here; give "
                "task.source=FILE, SQuAD's dev-v2.0.json or HotpotQA's hotpot_dev_distractor_v1.json (in task=ruler: "
                "task.squad=FILE and task.hotpotqa=FILE)"
            )

    def __iter__(self) -> Iterator[Fixture]:
        return map(self.fixture, range(len(self._data.questions)))

    @cached_property
    def _data(self) -> _Data:
        return _read(Path(str(self.source)))

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        question, documents = self._data.questions[index], self._data.documents
        own = {*question.documents, *question.related}
        others = [number for number in range(len(documents)) if number not in own]
        # A document has far more than eight tokens; no more of them are shuffled than could stand in the prompt.
        others = self.rng(index).sample(others, min(len(others), max(0, self.prompt_tokens) // 8))
        related = list(question.related)
        self.rng(index, "related").shuffle(related)
        order = [*question.documents, *related, *others]
        pieces = [f"\n\nDocument 123:\n{documents[number]}" for number in order]
        return self.fitted(
            lambda count: self._among(index, order[:count], question), pieces, least=len(question.documents)
        )

    def _among(self, index: int, order: Sequence[int], question: _Question) -> Draft:
        shuffled = list(order)
        self.rng(index, f"order/{len(order)}").shuffle(shuffled)
        writing = Writing(f"{_ASK}\n\nThe following are given documents.\n\n")
        for place, number in enumerate(shuffled, start=1):
            writing.add(f"{'' if place == 1 else chr(10) * 2}Document {place}:\n")
            writing.add(self._data.documents[number], evidence=number in question.evidence)
        return Draft(
            context=writing,
            question=f"\n\n{_ASK}\n\nQuestion: {question.text}",
            prefix=" Answer:",
            answers=question.answers,
            metadata={"documents": len(shuffled)},
        )


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    answers: tuple[str, ...]
    documents: tuple[int, ...]  # that stand in every prompt
    evidence: frozenset[int]
    related: tuple[int, ...]  # documents that are added before all others


@dataclass(frozen=True, slots=True)
class _Data:
    questions: list[_Question]
    documents: list[str]


def _read(path: Path) -> _Data:
    if not path.is_file():
        raise BadInput(f"task.source={str(path)!r} is no file; give SQuAD's or HotpotQA's JSON file")
    value = json.loads(path.read_text(encoding="utf-8"))
    try:
        data = _hotpotqa(value) if isinstance(value, list) else _squad(value["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"task.source={str(path)!r} has not the form of SQuAD 2.0 or HotpotQA ({type(error).__name__}: {error}); "
            "give the file as it was published"
        ) from error
    if not data.questions:
        raise BadInput(f"task.source={str(path)!r} has no question that can be answered; give the published file")
    return data


def _squad(articles: Sequence[Mapping[str, Any]]) -> _Data:
    documents = sorted({paragraph["context"] for article in articles for paragraph in article["paragraphs"]})
    place = {document: number for number, document in enumerate(documents)}
    questions = []
    for article in articles:
        numbers = [place[paragraph["context"]] for paragraph in article["paragraphs"]]
        for paragraph, own in zip(article["paragraphs"], numbers, strict=True):
            related = tuple(number for number in dict.fromkeys(numbers) if number != own)
            questions += [
                _Question(
                    qa["question"],
                    _answers(answer["text"] for answer in qa["answers"]),
                    (own,),
                    frozenset((own,)),
                    related,
                )
                for qa in paragraph["qas"]
                if not qa.get("is_impossible", False)
            ]
    return _Data(questions, documents)


def _hotpotqa(rows: Sequence[Mapping[str, Any]]) -> _Data:
    texts = [{title: f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]} for row in rows]
    documents = sorted({text for row in texts for text in row.values()})
    place = {document: number for number, document in enumerate(documents)}
    questions = []
    for row, of_title in zip(rows, texts, strict=True):
        own = tuple(dict.fromkeys(place[text] for text in of_title.values()))
        supporting = [title for title, _ in row.get("supporting_facts", [])]
        evidence = frozenset(place[of_title[title]] for title in supporting if title in of_title) or frozenset(own)
        questions.append(_Question(row["question"], _answers([row["answer"]]), own, evidence, ()))
    return _Data(questions, documents)


def _answers(texts: Any) -> tuple[str, ...]:
    answers = tuple(dict.fromkeys(texts))
    if not answers or not all(answers):
        raise ValueError(f"answers {answers!r}: at least one, none of them empty")
    return answers
