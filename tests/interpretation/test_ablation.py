import copy

import pytest
import torch
from torch import nn

from course_lib.interpretation.ablation import Attention, FeedForward, Head, ablated
from course_lib.interpretation.heads import attention_weights, repeated_random_ids
from course_lib.prediction.generation import chooser, generate_ids
from course_lib.prediction.kv_cache import KVCache


def by_hand(model, part):
    """A copy of the model in which the part's last matrix is zero."""
    model = copy.deepcopy(model)
    block = model.blocks[part.layer]
    if isinstance(part, Head):
        d_head = model.config.d_head
        block.attention.output.weight.data[:, part.head * d_head : (part.head + 1) * d_head] = 0
        return model
    last = block.attention.output if isinstance(part, Attention) else block.feed_forward
    for name, parameter in last.named_parameters():
        if isinstance(part, Attention) or "down" in name:
            parameter.data.zero_()
    return model


@pytest.mark.parametrize("part", [Head(0, 0), Head(1, 5), Head(2, 3), Attention(0), Attention(2), FeedForward(1)])
@torch.no_grad()
def test_a_part_at_zero_is_a_part_with_zero_weights(model, ids, part):
    with ablated(model, part):
        without = model(ids)
    torch.testing.assert_close(without, by_hand(model, part)(ids), atol=1e-4, rtol=1e-4)
    assert (without - model(ids)).abs().max() > 0.01


@torch.no_grad()
def test_several_parts_and_nested_blocks(model, ids):
    parts = [Head(0, 2), Head(0, 4), Attention(1), FeedForward(2)]
    expected = model
    for part in parts:
        expected = by_hand(expected, part)
    with ablated(model, iter(parts)):
        torch.testing.assert_close(model(ids), expected(ids), atol=1e-4, rtol=1e-4)
    with ablated(model, parts[:2]):
        outer = model(ids)
        with ablated(model, parts[2:]), ablated(model, parts[1:3]):
            torch.testing.assert_close(model(ids), expected(ids), atol=1e-4, rtol=1e-4)
        assert torch.equal(model(ids), outer)


@torch.no_grad()
def test_all_heads_are_the_attention_but_for_the_output_bias(model, ids):
    heads = [Head(1, head) for head in range(6)]
    with ablated(model, Attention(1)):
        without_attention = model(ids)
    with ablated(model, heads):
        without_heads = model(ids)
    bias = model.blocks[1].attention.output.bias
    if bias is not None:
        assert (without_heads - without_attention).abs().max() > 0.01
        model.blocks[1].attention.output.bias = None
        with ablated(model, heads):
            without_heads = model(ids)
    torch.testing.assert_close(without_heads, without_attention, atol=1e-5, rtol=1e-5)


class Says(nn.Module):
    """A part that says the same thing everywhere."""

    def __init__(self, vector):
        super().__init__()
        self.vector = vector

    def forward(self, x, *rest):
        return self.vector.expand(*x.shape[:-1], -1)


def made(module, run, before=False):
    """What enters or leaves a module while `run` runs."""
    seen = []
    if before:
        handle = module.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    else:
        handle = module.register_forward_hook(lambda module, given, result: seen.append(result))
    run()
    handle.remove()
    return seen[-1]


@torch.no_grad()
def test_a_part_at_its_mean_says_the_same_everywhere(model, ids):
    other = copy.deepcopy(model)
    block = other.blocks[1]
    block.attention = Says(made(block.attention, lambda: other(ids)).mean((0, 1)))
    with ablated(model, Attention(1), "mean"):
        torch.testing.assert_close(model(ids), other(ids), atol=1e-4, rtol=1e-4)

    other = copy.deepcopy(model)
    block = other.blocks[0]
    block.feed_forward = Says(made(block.feed_forward, lambda: other(ids)).mean((0, 1)))
    with ablated(model, FeedForward(0), "mean"):
        torch.testing.assert_close(model(ids), other(ids), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_head_at_its_mean_leaves_the_others_alone(model, ids):
    output = model.blocks[1].attention.output
    expected = made(output, lambda: model(ids), before=True).clone()
    expected[..., 8:12] = expected[..., 8:12].mean((0, 1))
    with ablated(model, Head(1, 2), replace_by="mean"):
        torch.testing.assert_close(made(output, lambda: model(ids), before=True), expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_block_can_run_several_texts_each_with_its_own_mean(tiny, ids):
    model = tiny()

    def alone(row):
        with ablated(model, Attention(0), "mean"):
            return model(row)

    expected = [alone(row) for row in ids.split(1)]
    with ablated(model, Attention(0), "mean"):
        assert all(torch.equal(model(row), logits) for row, logits in zip(ids.split(1), expected, strict=True))


def whole(model):
    """All that a model is: its weights, hooks and mode."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    return hooks, {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("by", ["zero", "mean"])
@pytest.mark.parametrize("ending", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_left_as_it_was(tiny, ids, training, by, ending):
    model = tiny(bias=True).train(training)
    (hooks, weights), before = whole(model), model(ids)
    try:
        with ablated(model, [Head(0, 1), Attention(1), FeedForward(2)], by) as same:
            assert same is model and model.training is training
            model(ids)
            if ending:
                raise ending
    except (RuntimeError, KeyboardInterrupt) as error:
        assert type(error) is ending
    after = whole(model)
    assert after[0] == hooks and all(torch.equal(after[1][name], value) for name, value in weights.items())
    assert torch.equal(model(ids), before)


def test_a_failing_run_leaves_no_hooks(tiny):
    model = tiny()
    before = whole(model)[0]
    with pytest.raises(ValueError, match="do not fit"), ablated(model, [Head(0, 1), FeedForward(2)]):
        model(torch.zeros(1, 41, dtype=torch.long))
    assert whole(model)[0] == before


def test_gradients_flow_around_what_is_ablated(tiny, ids):
    model = tiny()
    with ablated(model, [Attention(1), Head(0, 0)]):
        model(ids).sum().backward()
    gone, there = model.blocks[1].attention.value.weight.grad, model.blocks[0].attention.value.weight.grad
    assert gone is None or (gone == 0).all()
    assert there.abs().max() > 0
    assert (model.blocks[0].attention.output.weight.grad[:, :4] == 0).all()


@pytest.mark.parametrize("part", [Head(1, 5), Attention(0), FeedForward(2)])
def test_generation_with_and_without_a_cache(model, part):
    greedy = chooser(temperature=0)
    with ablated(model, part):
        cached = list(generate_ids(model, [3, 1, 4], greedy, 12))
        assert cached == list(generate_ids(model, [3, 1, 4], greedy, 12, use_cache=False))
    assert cached == list(generate_ids(by_hand(model, part), [3, 1, 4], greedy, 12))


@torch.no_grad()
def test_a_step_of_generation_takes_the_prompts_mean(tiny, ids):
    model, prompt, step = tiny(), ids[:1, :8], ids[:1, 8:]
    other = copy.deepcopy(model)
    block = other.blocks[1]
    block.attention = Says(made(block.attention, lambda: other(prompt)).mean((0, 1)))
    cache = KVCache(model.config, 9)
    with ablated(model, Attention(1), "mean"):
        model(prompt, cache)
        stepped = model(step, cache)
    torch.testing.assert_close(stepped, other(ids[:1])[:, 8:], atol=1e-4, rtol=1e-4)

    with (
        pytest.raises(ValueError, match="replace_by='mean' needs a run of more than one token first"),
        ablated(model, Attention(1), "mean"),
    ):
        model(step)


@pytest.mark.parametrize(
    ("parts", "by", "sentence"),
    [
        (Head(3, 0), "zero", r"layer must be from 0 to 2, counted from 0, got Head\(layer=3, head=0\)"),
        (Attention(-1), "zero", r"layer must be from 0 to 2, counted from 0, got Attention\(layer=-1\)"),
        ([Head(0, 0), FeedForward(30)], "mean", r"layer must be from 0 to 2, .*, got FeedForward\(layer=30\)"),
        (Head(0, 6), "zero", r"head must be from 0 to 5, counted from 0, got Head\(layer=0, head=6\)"),
        (Head(0, -1), "zero", "head must be from 0 to 5"),
        (Attention(0), "median", "replace_by must be 'zero' or 'mean', got 'median'"),
        ([(0, 1)], "zero", r"parts must hold Head, Attention or FeedForward, got \(0, 1\)"),
    ],
)
def test_bad_input_is_a_sentence(tiny, parts, by, sentence, bad_input):
    model = tiny()
    before = whole(model)[0]
    with pytest.raises(ValueError, match=sentence), ablated(model, parts, by):
        pass
    assert whole(model)[0] == before


def test_without_its_induction_head_a_model_cannot_copy(copier):
    """And the head is nothing without the one that it reads from."""
    ids = repeated_random_ids(16, 12, torch.Generator().manual_seed(1))

    @torch.no_grad()
    def copied(parts, by="zero"):
        with ablated(copier, parts, by):
            return (copier(ids[None])[0, 12:-1].argmax(-1) == ids[13:]).float().mean()

    assert copied([]) == 1
    for by in ("zero", "mean"):
        assert copied([Head(1, 1)], by) < 0.3 and copied([Head(0, 0)], by) < 0.3
        assert copied([Head(0, 1), Head(1, 0), FeedForward(0), FeedForward(1)], by) == 1
    with ablated(copier, Head(0, 0)):  # it looks elsewhere now
        assert attention_weights(copier, ids)[1, 1, 12:-1].diagonal(1).mean() < 0.3


def test_the_real_model_without_its_induction_heads(smollm2):
    model = smollm2.transformer
    ids = repeated_random_ids(model.config.vocab_size, 25, torch.Generator().manual_seed(0))

    @torch.no_grad()
    def loss(parts):  # of the second half, nats a token
        with ablated(model, parts):
            return nn.functional.cross_entropy(model(ids[None])[0, 25:-1], ids[26:]).item()

    intact = loss([])
    assert loss([Head(18, 6), Head(17, 3), Head(17, 4)]) > intact + 2
    assert loss([Head(18, 0), Head(17, 0), Head(17, 8)]) < intact + 0.5  # neighbours that do something else
