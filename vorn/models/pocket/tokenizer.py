"""The pocket models' tokenizer: byte-level BPE whose numbers are tokens of up to three digits, as in Llama 3's.

`python -m vorn.models.pocket.tokenizer DIR` writes it. Deterministic; takes a few seconds.
"""

from __future__ import annotations

import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tasks import niah, prose

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
# Words take their leading space or hyphen with them, numbers their leading space and at most three digits.
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+| ?[\r\n]+|\s+"


def _corpus() -> list[str]:
    """Every word in every position it can take, and every number up to 999, often enough to become one token."""
    rng = random.Random(0)
    lines = [f" {prose.sentence(rng)}" for _ in range(20_000)]
    lines += [f" {a}-{n}" for a in prose.ADJECTIVES for n in rng.sample(prose.NOUNS, 40)]
    numbers = [f"{n:0{width}d}" for width in (1, 2, 3) for n in range(10**width)]
    lines += [space + number for number in numbers for space in ("", " ") for _ in range(60)]
    template = niah.Template()
    lines += [template.intro, " " + template.needle("amber-oak", "1"), template.question("amber-oak")] * 200
    lines += [template.answer_prefix("amber-oak")] * 200
    return lines


def build() -> PreTrainedTokenizerFast:
    """Train the tokenizer from the project's own word lists and templates."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True) for text in (BOS, EOS, PAD)]
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_corpus(), trainer)
    core.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, core.token_to_id(BOS))]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    build().save_pretrained(sys.argv[1])
