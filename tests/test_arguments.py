"""Whole numbers at the public doors: NumPy's and a tensor's are as good as Python's, anything else is a sentence."""

import numpy as np
import pytest
import torch

from course_lib.arguments import whole
from course_lib.config import TransformerConfig
from course_lib.input_processing.batching import keep_last, pack, pad
from course_lib.input_processing.embeddings import nearest, principal_axes
from course_lib.interpretation.ablation import Head, ablated
from course_lib.interpretation.heads import repeated_random_ids
from course_lib.interpretation.neurons import promoted
from course_lib.interpretation.probes import linear_probe
from course_lib.prediction.beam_search import beam_search
from course_lib.prediction.calibration import calibration
from course_lib.prediction.generation import chooser, generate_batch, generate_ids
from course_lib.prediction.sampling import top_k
from course_lib.prediction.speculative import prompt_lookup, speculate
from course_lib.text_worlds import hill_world
from course_lib.training.batches import random_batch
from course_lib.training.evaluation import loss
from course_lib.training.loop import train
from course_lib.training.recipes import spread_out
from course_lib.training.trainer import Trainer
from course_lib.transformer_block.feed_forward import top_k_routing

GREEDY, PROMPT, TOKENS, TABLE = chooser(temperature=0), [4, 8, 15], torch.arange(60) % 7, torch.eye(5)
SIZES = dict(steps=2, batch_size=2, context_length=4)


def source():
    return torch.Generator().manual_seed(0)


def head(model, **place):
    with ablated(model, Head(**(dict(layer=1, head=1) | place))):
        return model(torch.tensor([PROMPT]))


def trained(model, **setting):
    return train(model, TOKENS, progress=False, **(SIZES | setting))


def run(model, until=2, **setting):
    return Trainer(model, TOKENS, progress=False, **(SIZES | setting)).run(until)


# the sentence's name for it: what is done with it, and the model
DOORS = [
    ("max_new_tokens", lambda n, model: list(generate_ids(model, PROMPT, GREEDY, n))),
    ("max_new_tokens", lambda n, model: generate_batch(model, [PROMPT], [GREEDY], n)),
    ("seed", lambda n, model: list(generate_ids(model, PROMPT, chooser(seed=n), 4))),
    ("top_k", lambda n, model: list(generate_ids(model, PROMPT, chooser(top_k=n, seed=1), 4))),
    ("top_k", lambda n, model: top_k(torch.arange(5.0), n)),
    ("width", lambda n, model: beam_search(model, PROMPT, n, 3)),
    ("max_new_tokens", lambda n, model: beam_search(model, PROMPT, 2, n)),
    ("n_guesses", lambda n, model: list(speculate(model, prompt_lookup, PROMPT, 4, n, seed=1))),
    ("max_new_tokens", lambda n, model: list(speculate(model, prompt_lookup, PROMPT, n, seed=1))),
    ("seed", lambda n, model: list(speculate(model, prompt_lookup, PROMPT, 4, seed=n))),
    ("n_bins", lambda n, model: calibration(torch.tensor([0.1, 0.9]), torch.tensor([False, True]), n).count),
    ("pad_id", lambda n, model: pad([[1, 2], [3]], n)),
    ("length", lambda n, model: pack([[1, 2], [3]], n, 0)),
    ("end_id", lambda n, model: pack([[1, 2], [3]], 4, n)),
    ("window", lambda n, model: keep_last(range(9), n)),
    ("k", lambda n, model: nearest(TABLE[0], TABLE, n)),
    ("k", lambda n, model: principal_axes(TABLE, n)),
    ("k", lambda n, model: top_k_routing(TABLE, n)),
    ("d_ff", lambda n, model: TransformerConfig(**(vars(model.config) | dict(d_ff=n)))),
    ("layer", lambda n, model: head(model, layer=n)),
    ("head", lambda n, model: head(model, head=n)),
    ("layer", lambda n, model: promoted(model, n, 1)),
    ("neuron", lambda n, model: promoted(model, 1, n)),
    ("vocabulary", lambda n, model: repeated_random_ids(n, 2, source())),
    ("length", lambda n, model: repeated_random_ids(9, n, source())),
    ("seed", lambda n, model: linear_probe(torch.arange(30.0).view(10, 3), [0, 1] * 5, seed=n)),
    ("seed", lambda n, model: hill_world.text(9, n)),
    ("n_words", lambda n, model: hill_world.text(n)),
    ("ids", lambda n, model: hill_world.decode([n])),
    ("batch_size", lambda n, model: random_batch(TOKENS, n, 4, source())),
    ("context_length", lambda n, model: random_batch(TOKENS, 2, n, source())),
    ("context_length", lambda n, model: loss(model, TOKENS, context_length=n)),
    ("batch_size", lambda n, model: loss(model, TOKENS, context_length=4, batch_size=n)),
    ("past", lambda n, model: loss(model, TOKENS, context_length=4, past=n)),
    ("seed", lambda n, model: spread_out(model, n).token_embedding.weight),
    ("steps", lambda n, model: trained(model, steps=n)),
    ("batch_size", lambda n, model: trained(model, batch_size=n)),
    ("context_length", lambda n, model: trained(model, context_length=n)),
    ("seed", lambda n, model: trained(model, seed=n)),
    ("begin_with", lambda n, model: run(model, begin_with=n)),
    ("validate_every", lambda n, model: run(model, validate_every=n)),
    ("until", lambda n, model: run(model, until=n)),
]


@pytest.mark.parametrize(("name", "do"), DOORS, ids=[f"{number}-{name}" for number, (name, _) in enumerate(DOORS)])
def test_a_whole_number_is_one_whoever_made_it(tiny, name, do):
    small = dict(n_layers=3, d_model=8, d_ff=8, n_heads=3, n_kv_heads=3, d_head=4)
    expected = repr(do(2, tiny(**small)))
    for made in (np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)):
        assert repr(do(made, tiny(**small))) == expected
    for wrong in (2.0, "2", [2], torch.tensor(2.0), True, np.True_, torch.tensor(True)):
        with pytest.raises(ValueError, match=f"^{name} must be .*whole number"):
            do(wrong, tiny(**small))


def test_a_seed_is_one_that_a_generator_takes():
    """From the lowest to the highest."""
    for seed in (0, -(2**63), 2**64 - 1):
        chooser(seed=seed)
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match=rf"^seed must be a whole number from -\d+ to \d+, got {seed}$"):
            chooser(seed=seed)


def test_the_sentence_says_what_was_expected():
    for limits, expected in (((), ""), ((1,), " of at least 1"), ((1, 9), " from 1 to 9")):
        with pytest.raises(ValueError, match=f"^k must be a whole number{expected}, got '3'$"):
            whole("k", "3", *limits)
    for value, low, high in ((0, 1, None), (10, 1, 9)):
        with pytest.raises(ValueError, match=f"got {value}$"):
            whole("k", np.int64(value), low, high)
