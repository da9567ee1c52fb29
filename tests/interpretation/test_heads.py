import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.interpretation.heads import (
    attention_weights,
    first_token_scores,
    induction_scores,
    previous_token_scores,
    repeated_random_ids,
)


def test_weights_are_what_the_attention_used(model, ids):
    """Held against each layer's own: what a hook sees when the blocks run with their weights asked for."""
    weights = attention_weights(model, ids[0])
    assert weights.shape == (3, 6, 9, 9) and weights.device.type == "cpu" and not weights.requires_grad
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 6, 9))
    assert (weights.triu(1) == 0).all()
    with torch.no_grad():
        x, run = model.embed(ids[:1]), model.begin(9, tables=[])
        for layer, block in enumerate(model.blocks):
            before = block.attention_norm(x) if model.config.norm_position == "pre" else x
            block.attention(before, run)
            torch.testing.assert_close(weights[layer], run.tables[-1][0], atol=1e-6, rtol=1e-5)
            x = block(x, run)


def test_several_texts_at_once(model, ids):
    together = attention_weights(model, ids)
    assert together.shape == (3, 2, 6, 9, 9)
    for row in range(2):
        torch.testing.assert_close(together[:, row], attention_weights(model, ids[row]), atol=1e-6, rtol=1e-5)


def test_scores_of_tables_made_by_hand():
    n = 6
    back = torch.eye(n).roll(1, 0)  # query q looks at q − 1
    back[0] = torch.eye(n)[0]
    first = torch.zeros(n, n)
    first[:, 0] = 1
    even = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
    induction = torch.eye(n)
    induction[3:] = torch.eye(n)[[1, 2, 3]]  # the second half looks at what followed: 0 → 1, 1 → 2, 2 → 3
    itself = torch.eye(n)
    tables = torch.stack((back, first, even, induction, itself))

    spread = sum(1 / k for k in range(2, n + 1)) / (n - 1)
    previous = [1, 1 / 5, spread, 0, 0]  # "first" is the previous token for query 1, one of five
    torch.testing.assert_close(previous_token_scores(tables), torch.tensor(previous))
    torch.testing.assert_close(first_token_scores(tables), torch.tensor([1 / 5, 1, spread, 0, 0]))
    # "back" looks at 2, 3, 4 from 3, 4, 5; what followed is 1, 2, 3: never
    torch.testing.assert_close(induction_scores(tables), torch.tensor([0, 0, (1 / 4 + 1 / 5 + 1 / 6) / 3, 1, 0]))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_scores_by_loops(half, seed):
    n = 2 * half
    table = torch.rand(3, 2, n, n, generator=torch.Generator().manual_seed(seed)).tril()
    table = table / table.sum(-1, keepdim=True)

    def mean(pairs):
        return torch.stack([table[..., query, key] for query, key in pairs]).mean(0)

    torch.testing.assert_close(previous_token_scores(table), mean([(q, q - 1) for q in range(1, n)]))
    torch.testing.assert_close(first_token_scores(table), mean([(q, 0) for q in range(1, n)]))
    torch.testing.assert_close(induction_scores(table), mean([(half + i, i + 1) for i in range(half)]))


def test_heads_written_by_hand_are_found(copier):
    ids = repeated_random_ids(16, 12, torch.Generator().manual_seed(0))
    attention = attention_weights(copier, ids)
    previous, induction = previous_token_scores(attention), induction_scores(attention)
    assert previous[0, 0] > 0.99 and (previous.flatten()[1:] < 0.3).all()
    assert induction[1, 1] > 0.99 and (induction.flatten()[:3] < 0.3).all()
    assert (copier(ids[None])[0, 12:-1].argmax(-1) == ids[13:]).all()  # and it copies


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 1000))
def test_random_ids_repeat_once(vocabulary, length, seed):
    generator = torch.Generator().manual_seed(seed)
    if length > vocabulary:
        with pytest.raises(ValueError, match=f"length must be from 2 to vocabulary, {vocabulary}, .* got {length}"):
            repeated_random_ids(vocabulary, length, generator)
        return
    ids = repeated_random_ids(vocabulary, length, generator)
    assert ids.shape == (2 * length,) and ids.dtype == torch.long and 0 <= ids.min() <= ids.max() < vocabulary
    assert torch.equal(ids[:length], ids[length:]) and len(set(ids.tolist())) == length
    if length > 9:
        assert not torch.equal(repeated_random_ids(vocabulary, length, generator), ids)  # the generator moves on


def test_bad_input_is_a_sentence(tiny, monkeypatch):
    model = tiny()
    with pytest.raises(ValueError, match=r"ids is empty, its shape is \(0,\)"):
        attention_weights(model, torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="41 tokens do not fit into the model's context of 40"):
        attention_weights(model, torch.zeros(41, dtype=torch.long))
    with pytest.raises(ValueError, match="ids must be from 0 to 49, the model's vocabulary, got 50"):
        attention_weights(model, torch.tensor([3, 50]))
    with pytest.raises(ValueError, match="ids must be from 0 to 49, the model's vocabulary, got -1"):
        attention_weights(model, torch.tensor([3, -1]))
    monkeypatch.setattr("course_lib.interpretation.lens.LARGEST", 3 * 6 * 10 * 10 * 4)
    attention_weights(model, torch.arange(10))
    with pytest.raises(ValueError, match=r"the attention weights of 3 × 6 heads for ids of the shape \(11,\) would"):
        attention_weights(model, torch.arange(11))
    with pytest.raises(ValueError, match=r"of the shape \(2, 10\) would take .* GiB.*: take a shorter text, or fewer"):
        attention_weights(model, torch.arange(20).view(2, 10))

    with pytest.raises(ValueError, match=r"attention must come from a text of two equal halves .* got .* odd number"):
        induction_scores(torch.rand(5, 5))
    with pytest.raises(ValueError, match="attention must be of at least 4 tokens for this score, got 2"):
        induction_scores(torch.rand(2, 2))
    for score in (previous_token_scores, first_token_scores):
        with pytest.raises(ValueError, match="attention must be of at least 2 tokens for this score, got 1"):
            score(torch.rand(3, 1, 1))
        with pytest.raises(ValueError, match=r"attention must end in a square table, .*, got the shape \(3, 4\)"):
            score(torch.rand(3, 4))


def test_the_real_models_heads(smollm2):
    model = smollm2.transformer
    attention = attention_weights(model, torch.tensor(smollm2.prompt_ids("The dog ran up the hill")))
    assert divmod(int(previous_token_scores(attention).argmax()), 9) == (16, 0)
    assert (first_token_scores(attention) > 0.5).sum() > 200  # of 270; on a longer text fewer

    ids = repeated_random_ids(model.config.vocab_size, 25, torch.Generator().manual_seed(0))
    scores = induction_scores(attention_weights(model, ids))
    assert {divmod(int(i), 9) for i in scores.flatten().topk(4).indices} == {(18, 6), (17, 3), (17, 4), (17, 5)}
    assert scores.max() > 0.8 and (scores > 0.3).sum() < 20
