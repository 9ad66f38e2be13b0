"""How the Hugging Face Hub is asked whether it answers: once and briefly, before its own client tries for minutes."""

from __future__ import annotations

from huggingface_hub.errors import HfHubHTTPError

TIMEOUT_S = 5.0  # of the first question
# What a question raises that was not answered; the second is of the HTTP library that the Hub's client happens to use.
NO_ANSWER: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])


def reason(error: Exception) -> str:
    """Why there was no answer, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
