"""What a checkpoint's generation configuration says: where answers end, and what is not applied here."""

from __future__ import annotations

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every end-of-sequence id that the generation configuration or the tokenizer names."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = [*named] if isinstance(named, list) else [named]
    return frozenset(int(token) for token in [*ids, tokenizer.eos_token_id] if token is not None)


# Settings of a generation configuration that change which token `generate` takes next.
_STEERING = (
    "do_sample", "num_beams", "num_beam_groups", "penalty_alpha", "repetition_penalty", "encoder_repetition_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "guidance_scale",
    "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
    "exponential_decay_length_penalty", "min_length", "min_new_tokens", "diversity_penalty", "watermarking_config",
)  # fmt: skip


def not_applied(config: GenerationConfig | None) -> dict[str, object]:
    """The settings by which `generate` would choose other tokens than greedy decoding, which is all that is done here.

    Penalties, sampling and beams would be chosen by the model's publisher for chatting, act differently on cells of
    different length, and hide what eviction costs.
    """
    if config is None:
        return {}
    values = {name: getattr(config, name, None) for name in _STEERING}
    # A switch that is on is no number: True would count as the neutral 1.
    return {name: value for name, value in values.items() if value and (value is True or value != 1)}
