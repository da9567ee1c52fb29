"""Beam search against every continuation there is, against transformers, and against what it does not promise."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from course_lib.config import TransformerConfig
from course_lib.prediction.beam_search import beam_search
from course_lib.prediction.generation import chooser, generate_ids
from course_lib.pretrained.checkpoints import transformer_from_folder
from course_lib.transformer_block.transformer import Transformer

PROMPT = (0,)


class Told(Transformer):
    """A model that we make up: `next_probabilities(ids)` says what it gives after these ids, the prompt included.

    It knows what went before from the cache alone, so a cache whose rows are mixed up shows.
    """

    def __init__(self, next_probabilities, vocab_size, context_length=20):
        torch.nn.Module.__init__(self)
        self.next_probabilities = next_probabilities
        self.config = TransformerConfig(
            vocab_size=vocab_size, context_length=context_length, d_model=1, n_layers=1, n_heads=1, n_kv_heads=1,
            d_head=1, d_ff=1, positions="none",
        )  # fmt: skip
        self.token_embedding = SimpleNamespace(weight=torch.zeros(1))

    def hidden_states(self, ids, cache):
        seen, _ = cache.append(0, ids[:, None, :, None].float(), ids[:, None, :, None].float())
        cache.grow(ids.shape[1])
        rows = [self.next_probabilities(tuple(row)) for row in seen[:, 0, :, 0].int().tolist()]
        return torch.tensor(rows)[:, None]

    def unembed(self, hidden):
        return hidden.log()


def random_model(seed, vocab_size, **settings):
    def next_probabilities(ids):
        source = torch.Generator().manual_seed(hash((seed, ids)) % 2**63)
        return (torch.randn(vocab_size, generator=source) * 2).softmax(0).tolist()

    return Told(next_probabilities, vocab_size, **settings)


def log_probability(model, ids):
    """Of a continuation, one token after the other."""
    return sum(math.log(model.next_probabilities((*PROMPT, *ids[:n]))[id]) for n, id in enumerate(ids))


def all_continuations(model, n, end_ids=()):
    """Every continuation: of n ids, or shorter with an end id last."""
    vocab = range(model.config.vocab_size)
    for length in range(1, n + 1):
        for ids in itertools.product(vocab, repeat=length):
            early = any(id in end_ids for id in ids[:-1])
            if not early and (length == n or ids[-1] in end_ids):
                yield ids


def ranked(model, n, end_ids=(), length_penalty=0.0):
    scored = {
        ids: log_probability(model, ids) / len(ids) ** length_penalty for ids in all_continuations(model, n, end_ids)
    }
    return sorted(scored.items(), key=lambda item: -item[1])


ends = st.sampled_from([(), (1,), (0, 2)])
penalties = st.sampled_from([0.0, 0.7, 1.0, 2.0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), ends, penalties)
def test_a_beam_that_drops_nothing_equals_an_exhaustive_search(seed, vocab_size, n, end_ids, length_penalty):
    model = random_model(seed, vocab_size)
    expected = ranked(model, n, end_ids, length_penalty)
    found = beam_search(model, PROMPT, len(expected), n, end_ids, length_penalty)
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert {h.ids for h in found} == {ids for ids, _ in expected}
    # for the best alone, the last step need not be kept whole
    narrower = max(1, vocab_size ** (n - 1))
    assert beam_search(model, PROMPT, narrower, n, end_ids, length_penalty)[0] == found[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 9), st.integers(0, 6), ends, penalties)
def test_what_any_beam_promises(seed, vocab_size, width, n, end_ids, length_penalty):
    model = random_model(seed, vocab_size)
    found = beam_search(model, PROMPT, width, n, end_ids, length_penalty)
    assert 1 <= len(found) <= width and len({h.ids for h in found}) == len(found)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    for h in found:
        assert h.log_probability == pytest.approx(log_probability(model, h.ids), abs=1e-5)
        assert h.score == pytest.approx(h.log_probability / max(len(h.ids), 1) ** length_penalty)
        assert h.ended == (bool(h.ids) and h.ids[-1] in end_ids) and not set(h.ids[:-1]) & set(end_ids)
        assert h.ended or len(h.ids) == n


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 8), ends, penalties)
def test_a_beam_of_one_is_the_greedy_choice(seed, vocab_size, n, end_ids, length_penalty):
    model = random_model(seed, vocab_size)
    [found] = beam_search(model, PROMPT, 1, n, end_ids, length_penalty)
    greedy = list(generate_ids(model, PROMPT, chooser(temperature=0), n, end_ids))
    assert list(found.ids)[: len(greedy)] == greedy and len(found.ids) == len(greedy) + found.ended


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), ends, penalties)
def test_over_two_steps_a_wider_beam_is_never_worse(seed, end_ids, length_penalty):
    """The first step keeps the best few, and more of the same when it is wider; the second takes the best of all."""
    model = random_model(seed, 5)
    best = [beam_search(model, PROMPT, width, 2, end_ids, length_penalty)[0].score for width in range(1, 7)]
    assert best == sorted(best)


def test_over_three_steps_a_wider_beam_can_be_worse():
    """1 is likelier at first, and sure of what comes last. 2 has two good children, which push 1's out of the beam."""

    def next_probabilities(ids):
        if len(ids) == 1:
            return [0, 0.55, 0.45, 0, 0]
        if len(ids) == 2:
            return [0.2, 0.2, 0.2, 0.2, 0.2] if ids[1] == 1 else [0.5, 0.5, 0, 0, 0]
        return [1, 0, 0, 0, 0] if ids[1] == 1 else [0.2, 0.2, 0.2, 0.2, 0.2]

    model = Told(next_probabilities, 5)
    best = {width: beam_search(model, PROMPT, width, 3)[0] for width in (1, 2, 3)}
    assert best[1].ids == (1, 0, 0) and math.exp(best[1].log_probability) == pytest.approx(0.11)
    assert best[2].ids == (2, 0, 0) and math.exp(best[2].log_probability) == pytest.approx(0.045)
    assert best[3] == best[1]


def test_a_token_that_cannot_come_is_never_kept():
    model = Told(lambda ids: [0.5, 0, 0.5], 3)
    assert [h.ids for h in beam_search(model, PROMPT, 9, 2)] == [(0, 0), (0, 2), (2, 0), (2, 2)]


def test_of_equal_scores_the_earlier_parent_and_the_lower_id_come_first():
    model = Told(lambda ids: [0.25] * 4, 4)
    assert [h.ids for h in beam_search(model, PROMPT, 3, 2)] == [(0, 0), (0, 1), (0, 2)]


def test_without_a_penalty_short_texts_win_and_with_one_the_mean_counts():
    model = Told(lambda ids: [0.6, 0.4], 2)  # 1 ends; 0 goes on, and is the likelier
    plain = beam_search(model, PROMPT, 20, 4, end_ids={1})
    assert plain[0].ids == (1,) and plain[0].ended
    by_mean = beam_search(model, PROMPT, 20, 4, end_ids={1}, length_penalty=1.0)
    assert by_mean[0].ids == (0, 0, 0, 0) and not by_mean[0].ended
    assert {h.ids for h in plain} == {h.ids for h in by_mean} == {(1,), (0, 1), (0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0)}


def test_it_ends_with_the_context_and_when_everything_has_ended():
    model = random_model(3, 3, context_length=6)
    assert {len(h.ids) for h in beam_search(model, (0, 1), 4, 50)} == {4}
    steps = []
    model = Told(lambda ids: steps.append(ids) or [0.9, 0.1], 2)
    assert [h.ids for h in beam_search(model, PROMPT, 2, 9, end_ids={0, 1})] == [(0,), (1,)]
    assert steps == [PROMPT]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_on_a_transformer_it_equals_transformers(width, tmp_path):
    torch.manual_seed(3)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64,
        )
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    ours = transformer_from_folder(tmp_path)
    prompt = [4, 8, 15]
    batch = torch.tensor([prompt])
    expected = theirs.generate(
        batch, attention_mask=torch.ones_like(batch), num_beams=width, num_return_sequences=width, max_new_tokens=9,
        do_sample=False, length_penalty=0.0, eos_token_id=None, pad_token_id=0, return_dict_in_generate=True,
        output_scores=True,
    )  # fmt: skip
    found = beam_search(ours, prompt, width, 9)
    assert [[*prompt, *h.ids] for h in found] == expected.sequences.tolist()
    if width > 1:
        assert [h.score for h in found] == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)


def test_half_precision_searches_too(tiny):
    assert len(beam_search(tiny().to(torch.bfloat16), [1, 2], 3, 4)) == 3


def test_settings_out_of_range_and_broken_logits_are_a_sentence(tiny):
    model = tiny()
    for arguments, sentence in (
        (([1], 0, 5), "width must be a whole number of at least 1, got 0"),
        (([1], 1.5, 5), "width must be a whole number"),
        (([1], 2, -1), "max_new_tokens must be a whole number of at least 0, got -1"),
        (([1], 2, 5, (), -0.5), "length_penalty must be 0 or more"),
        (([], 2, 5), "the prompt is empty"),
        (([1] * 40, 2, 5), "the prompt has 40 tokens, and the model's context holds 40"),
    ):
        with pytest.raises(ValueError, match=sentence):
            beam_search(model, *arguments)
    model.final_norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="broke down"):
        beam_search(model, [1], 2, 5)
