"""What homework 3 holds answers against, itself held against the library and others."""

import math

import pytest
import torch

from course_lib.config import TransformerConfig
from course_lib.input_processing.positions import rotate
from course_lib.lessons.homework_3.cache import run_with_cache
from course_lib.lessons.homework_3.sampling import (
    distributions,
    forbid_repeats,
    mirostat_step,
    surprise,
    texts,
    top_n_sigma,
    typical_tokens,
)
from course_lib.lessons.homework_3.stopping import vocabulary, where_it_stops
from course_lib.lessons.homework_3.study import paired_study, repeated_share, studies
from course_lib.lessons.homework_3.training import deeds, step_gradient, steps
from course_lib.lessons.tools import some, vectors


def test_a_batch_in_pieces_is_a_batch_at_once():
    random = torch.Generator().manual_seed(9)
    [(weights, loss, pieces, _)] = steps(random, [(6, 12, 18)])
    whole = tuple(torch.cat(rows) for rows in zip(*pieces, strict=True))
    own = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    total, n = loss(own, whole)
    (total / n).backward()
    for longest in (0.1, 1e3):
        ours = step_gradient(weights, loss, pieces, longest)
        torch.nn.utils.clip_grad_norm_(own.values(), longest)
        torch.testing.assert_close(ours, {name: weight.grad for name, weight in own.items()}, atol=1e-5, rtol=1e-4)
        for weight in own.values():
            weight.grad = None
        (loss(own, whole)[0] / n).backward()


def test_the_floor_is_hill_worlds():
    """Each place's chance after the words before it, as the library has it; the words' together make the sentence's."""
    from course_lib.text_worlds.hill_world import next_word_distribution

    words, listed, chances = deeds()
    assert len(listed) == len({tuple(ids) for ids, _ in listed}) == 167 and chances.sum() == pytest.approx(1)
    for (ids, nats), p in zip(listed, chances.tolist(), strict=True):
        *said, place, _ = (words[id] for id in ids)
        assert next_word_distribution(said)[place] == pytest.approx(math.exp(-nats[-2]))
        assert sum(nats) == pytest.approx(-math.log(p), rel=1e-4)


def test_samplers_are_those_of_transformers():
    from transformers import NoRepeatNGramLogitsProcessor, TypicalLogitsWarper

    random = torch.Generator().manual_seed(10)
    for logits, ids, n in texts(random, (2, 3, 4, 5), length=80):
        theirs = NoRepeatNGramLogitsProcessor(n)(ids[None], logits[None])[0]
        assert torch.equal(forbid_repeats(logits, ids, n), theirs)
    for closed in (0, 3):
        for logits, mass in distributions(random, (0.1, 0.3, 0.5, 0.6), closed=closed):
            theirs = TypicalLogitsWarper(mass)(torch.zeros(1, 1), logits[None])[0]
            assert torch.equal(typical_tokens(logits, mass), theirs)


def test_top_n_sigma_keeps_the_same_at_every_temperature():
    logits = vectors(torch.Generator().manual_seed(11), 1_000)
    kept = top_n_sigma(logits, 1.5).isfinite()
    assert torch.equal(kept, logits >= logits.max() - 1.5 * logits.std(correction=0)) and 1 < kept.sum() < 200
    for temperature in (0.5, 3.0):
        assert torch.equal(top_n_sigma(logits / temperature, 1.5).isfinite(), kept)


def test_mirostat_keeps_the_surprise_at_its_target():
    random = torch.Generator().manual_seed(12)
    mu, surprises = 8.0, []

    def draw(logits):
        id = int(torch.multinomial(logits.softmax(-1), 1, generator=random))
        surprises.append(surprise(logits)[id].item())
        return id

    for _ in range(1_000):
        _, mu = mirostat_step(2 * vectors(random, 200), mu, 3.0, 0.1, draw)
    assert sum(surprises[100:]) / 900 == pytest.approx(3.0, abs=0.1)


def test_a_cache_is_the_librarys():
    """The oracle on the library's own Transformer, taken apart: its logits, and the keys and values of its KV cache."""
    from course_lib.prediction.kv_cache import KVCache
    from course_lib.transformer_block.attention import repeat_kv
    from course_lib.transformer_block.transformer import Transformer

    config = TransformerConfig(
        vocab_size=20, context_length=12, d_model=16, n_layers=2, n_heads=4, n_kv_heads=4, d_head=4, d_ff=24
    )
    torch.manual_seed(13)
    transformer = Transformer(config)

    def layer(block):
        attention = block.attention

        def read(x):
            rows = block.attention_norm(x)
            parts = (attention.query, attention.key, attention.value)
            return tuple(repeat_kv(part(rows).unflatten(-1, (4, 4)).transpose(0, 1)[None], 4)[0] for part in parts)

        def write(x, mixed):
            x = x + attention.output(mixed.transpose(0, 1).flatten(1))
            return x + block.feed_forward(block.feed_forward_norm(x))

        return read, write

    def turn(rows, positions):
        return rotate(rows, transformer.position_embedding.angles(positions), config.rope_pairs)

    model = dict(
        embed=lambda ids: transformer.embed(ids[None])[0],
        layers=[layer(block) for block in transformer.blocks],
        turn=turn,
        unembed=lambda x: transformer.unembed(transformer.final_norm(x)),
    )
    ids, theirs, ours, logits = torch.randint(20, (9,)), KVCache(config, 9), [], []
    with torch.no_grad():
        for piece in ids.split([4, 1, 3, 1]):
            rows, ours = run_with_cache(piece, ours, model)
            torch.testing.assert_close(rows, transformer(piece[None], theirs)[0])
            logits.append(rows)
        torch.testing.assert_close(torch.cat(logits), transformer(ids[None])[0], atol=1e-4, rtol=1e-4)
    for number, (keys, values) in enumerate(ours):
        torch.testing.assert_close(keys, theirs.keys[number, 0])
        torch.testing.assert_close(values, theirs.values[number, 0])


def test_stop_strings_are_the_librarys():
    from course_lib.prediction.generation import stop_at

    random = torch.Generator().manual_seed(14)
    for _ in range(200):
        pieces, name = vocabulary(random)
        ids = some(random, name("\nUs", "er:", " ST", "OP", "\n", "Us", "er", ":", "!\n\nUser: why", " dog"), 12)
        stops = some(random, ["\nUser:", "STOP", "OP", "User", "er:"], 2)
        text, _ = where_it_stops(ids, pieces, [], stops, 99, 99)
        assert text == "".join(stop_at((pieces[id] for id in ids), stops))


def test_the_error_of_a_study_is_the_one_of_a_paired_test():
    import numpy

    before, after, n = studies(torch.Generator().manual_seed(15), "less", pairs=9)
    found = paired_study(before, after, n)
    one, other = ([repeated_share(ids, n) for ids in texts] for texts in (before, after))
    apart = numpy.array(other) - numpy.array(one)
    assert found["difference"] == pytest.approx(apart.mean())
    assert found["error"] == pytest.approx(apart.std(ddof=1) / 3)
