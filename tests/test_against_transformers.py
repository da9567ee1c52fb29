"""The real model in our code against the same file in `transformers`: its GGUF reader, its Llama, its generate."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from course_lib import assets
from course_lib.prediction.generation import chooser, generate_ids

pytestmark = pytest.mark.slow  # transformers takes half a minute to load it; test_checkpoints.py compares small models

PROMPTS = [
    "The dog ran up the",
    "Once upon a time, there was a little girl named",
    "def fibonacci(n):\n    if n < 2:\n        return",
    "Q: What is 12 + 30?\nA:",
    "¿Dónde está la biblioteca? 図書館はどこですか。 🐕",
]


@pytest.fixture(scope="module")
def reference():
    file = assets.path("smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_agree_to_a_thousandth(smollm2, reference, prompt):
    ids = torch.tensor([smollm2.tokenizer.encode(prompt)])
    with torch.no_grad():
        ours, theirs = smollm2.transformer(ids), reference(ids).logits
    assert (ours - theirs).abs().max() < 1e-3


@pytest.mark.parametrize("prompt", PROMPTS[:3])
def test_greedy_with_cache_equals_without_equals_transformers(smollm2, reference, prompt):
    ids = smollm2.tokenizer.encode(prompt)
    greedy = chooser(temperature=0)
    ends = sorted(smollm2.end_ids)
    cached, uncached = (
        list(generate_ids(smollm2.transformer, ids, greedy, 24, ends, use_cache=use)) for use in (True, False)
    )
    batch = torch.tensor([ids])
    theirs = reference.generate(
        batch,
        attention_mask=torch.ones_like(batch),
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=2,
    )
    theirs = [id for id in theirs[0, len(ids) :].tolist() if id not in ends]
    assert cached == uncached == theirs
