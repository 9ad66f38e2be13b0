"""The Hugging Face Hub: one quick question before anything is downloaded, and one message for each way it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vorn import reach
from vorn.records import BadInput


@dataclass(frozen=True)
class Place:
    """Where a checkpoint on the Hub is read from.

    Attributes:
        commit: the one that all files are read from; None if the Hub did not answer and the cache does not know it.
        unreachable: why the Hub did not answer, so that only the local cache is read; None if it did.
    """

    commit: str | None
    unreachable: str | None


def find(source: str, revision: str | None) -> Place:
    """Asks the Hub which commit `revision` is, so that all files come from one; without an answer, the cache is asked.

    Raises: BadInput if the Hub answers that there is no such checkpoint, or that it must not be read.
    """
    try:
        return Place(HfApi().model_info(source, revision=revision, timeout=reach.TIMEOUT_S).sha, None)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise refusal(source, error, None) from error
    except reach.NO_ANSWER as error:
        file = try_to_load_from_cache(source, "config.json", revision=revision)
        commit = Path(file).parent.name if isinstance(file, str) else None
        return Place(commit, reach.reason(error))


def refusal(source: str, error: BaseException, unreachable: str | None) -> BadInput:
    """One message with id, reason and remedy for whatever kept a checkpoint from being read."""
    reason, remedy = _reason(_chain(error), unreachable)
    return BadInput(f"model.id={source!r} cannot be loaded: {reason}; {remedy}")


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _reason(chain: list[BaseException], unreachable: str | None) -> tuple[str, str]:
    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(error, kinds) for error in chain)

    said = f"({type(chain[0]).__name__}: {' '.join(str(chain[0]).split())})"
    if is_any(GatedRepoError):
        return (
            "it is gated, and this account has no access",
            "accept its conditions on its page at the Hub, then log in (hf auth login) or set HF_TOKEN",
        )
    if is_any(RevisionNotFoundError):
        return "it has no such revision", "check model.revision: a branch, a tag or a commit; null is the main branch"
    if is_any(RepositoryNotFoundError, HFValidationError):
        return (
            "the Hub knows no such model, or it is private",
            "check model.id (organisation/model), and for a private one log in (hf auth login) or set HF_TOKEN",
        )
    if any("trust_remote_code" in str(error) for error in chain):
        return "it brings code of its own", "if you trust its authors, give model.trust_remote_code=true"
    if unreachable is not None:
        return (
            f"the Hub cannot be reached ({unreachable}), and the local cache does not hold all of it {said}",
            "connect to the network (and unset HF_HUB_OFFLINE), or download it elsewhere (hf download ID --local-dir "
            "DIR) and give model.id=DIR",
        )
    if is_any(EntryNotFoundError):
        return f"a file is missing {said}", "the checkpoint is incomplete or of another kind; check model.id"
    return said, "check the id and revision, and whether its files are complete and not damaged"
