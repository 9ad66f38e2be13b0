"""Long documents that requests share and leave at different places."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.paths import Path
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance, Request
from vorn.snapshots.workloads.draw import Draw


@dataclass(frozen=True, kw_only=True)
class Fork:
    """Each of `documents` is read once; then, round by round, each is left at every fork and read on to its end.

    All requests are untracked, as different users' are. A document is made of `parts` equal segments and a fork leaves
    it after one of them. Measured are the forks and the repeats. Source: SGLang pull request 38000's benchmark (3
    documents of 32k tokens, left at 8,192 and repeated).
    """

    documents: int
    document_tokens: int
    parts: int
    leave_after: tuple[int, ...]  # parts
    question_tokens: int
    generated: int
    rounds: int
    spread: float

    def instance(self, name: str, seed: int, placement: Placement) -> Instance:
        """The draw of one seed. Raises BadInput for a fork outside the document."""
        for part in self.leave_after:
            if not 1 <= part <= self.parts:
                raise BadInput(f"leave_after={part}: legal is 1 to parts={self.parts}")
        draw = Draw(seed, self.spread)
        sizes = [draw.tokens(self.document_tokens // self.parts) for _ in range(self.documents)]
        requests = [self._request(name, f"read{number}", number, size, self.parts) for number, size in enumerate(sizes)]
        for turn in range(self.rounds):
            for number, size in enumerate(sizes):
                for part in (*self.leave_after, self.parts):
                    asked = f"round{turn}-document{number}-part{part}"
                    requests.append(self._request(name, asked, number, size, part, f"{name}/{asked}"))
        return Instance(name, requests)

    def _request(self, name: str, asked: str, document: int, size: int, parts: int, measured: str = "") -> Request:
        path = Path.of(*((f"{name}/document{document}-{part}", size) for part in range(parts)))
        path = path.extended(f"{name}/question-{asked}", self.question_tokens)
        return Request(0, path, (f"{name}/reply-{asked}", self.generated), measured)
