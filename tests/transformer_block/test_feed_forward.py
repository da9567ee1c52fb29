"""Feed-forward: from-scratch functions against PyTorch's, a mixture of experts against its dense sum and Mixtral."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from course_lib.config import TransformerConfig
from course_lib.training.loop import train
from course_lib.transformer_block import feed_forward as ff
from course_lib.transformer_block.transformer import Transformer

# how far two right ways of computing may differ: (absolute, relative)
TOLERANCE = {torch.float64: (1e-12, 1e-10), torch.float32: (1e-5, 1e-5), torch.bfloat16: (2e-2, 2e-2)}
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")


def drawn(*shape, seed=0, dtype=torch.float64, scale=1.0):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def close(ours, theirs):
    atol, rtol = TOLERANCE[theirs.dtype]
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)


def config(**changes):
    shape = dict(vocab_size=20, context_length=16, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_head=4, d_ff=12)
    return TransformerConfig(**(shape | changes))


def mixture(n_experts=5, n_active_experts=2, seed=0, **changes):
    torch.manual_seed(seed)
    module = ff.feed_forward(config(n_experts=n_experts, n_active_experts=n_active_experts, **changes))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double()


# ---- activations and the two forms --------------------------------------------------------------


@settings(deadline=None)
@given(st.sampled_from(ACTIVATIONS), SHAPES, st.sampled_from(list(TOLERANCE)), st.integers(0, 99), st.floats(0.1, 30))
def test_activations_equal_torch(name, shape, dtype, seed, scale):
    x = drawn(*shape, seed=seed, dtype=dtype, scale=scale)
    ours = getattr(ff, name)(x)
    assert ours.dtype == dtype
    close(ours, ff.FUSED[name](x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_ends(name):
    x = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4])
    torch.testing.assert_close(getattr(ff, name)(x), torch.tensor([0, 0, 0, 50, 1e4]), atol=1e-15, rtol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_of_activations(name):
    x = drawn(40).requires_grad_()
    assert gradcheck(getattr(ff, name), (x,))
    ours, theirs = (torch.autograd.grad(f(x).sum(), x)[0] for f in (getattr(ff, name), ff.FUSED[name]))
    close(ours, theirs)


@settings(deadline=None)
@given(SHAPES, st.integers(1, 7), st.sampled_from([torch.float64, torch.float32]), st.integers(0, 99))
def test_swiglu_equals_torch_and_the_module(shape, d_ff, dtype, seed):
    x = drawn(*shape, seed=seed, dtype=dtype)
    d_model = shape[-1]
    gate, up = (drawn(d_ff, d_model, seed=seed + i, dtype=dtype) for i in (1, 2))
    down = drawn(d_model, d_ff, seed=seed + 3, dtype=dtype)
    expected = F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
    close(ff.swiglu(x, gate, up, down), expected)

    module = ff.feed_forward(config(d_model=d_model, d_ff=d_ff)).to(dtype)
    module.load_state_dict({"gate.weight": gate, "up.weight": up, "down.weight": down})
    with torch.no_grad():
        close(module(x), expected)
        close(module.down(module.neurons(x)), expected)


def test_gradients_of_swiglu():
    weights = [drawn(*shape, seed=i).requires_grad_() for i, shape in enumerate([(5, 3), (5, 3), (3, 5)], start=1)]
    assert gradcheck(ff.swiglu, (drawn(2, 3).requires_grad_(), *weights))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_the_plain_form_equals_torch(activation, bias):
    module = ff.feed_forward(config(feed_forward="mlp", activation=activation, bias=bias)).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = drawn(2, 3, 8)
    wide = ff.FUSED[activation](F.linear(x, module.up.weight, module.up.bias))
    close(module.neurons(x), wide)
    close(module(x), F.linear(wide, module.down.weight, module.down.bias))


@pytest.mark.parametrize("n_experts", [1, 5])
@pytest.mark.parametrize("form", ["mlp", "gated"])
def test_each_token_by_itself(n_experts, form):
    """Another order, another company, another place in the batch: the same answer for the token."""
    module, x = mixture(n_experts, min(n_experts, 2), feed_forward=form), drawn(2, 7, 8)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    close(module(x[:, order]), module(x)[:, order])
    close(module(x[1:, 3:4]), module(x)[1:, 3:4])
    close(module(x[0, 0]), module(x)[0, 0])  # a single vector, without batch and position


# ---- routing ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(SHAPES, st.data())
def test_routing_equals_softmax_over_all_then_the_largest_scaled_up(shape, data):
    """The other order of the two steps."""
    scores = drawn(*shape, seed=data.draw(st.integers(0, 99)))
    k = data.draw(st.integers(1, shape[-1]))
    largest, where = scores.softmax(-1).topk(k)
    routing = ff.top_k_routing(scores, k)
    assert torch.equal(routing.experts, where) and routing.scores is scores
    close(routing.weights, largest / largest.sum(-1, keepdim=True))
    close(routing.weights.sum(-1), torch.ones(shape[:-1], dtype=torch.float64))


@pytest.mark.parametrize("n_experts", [2, 3, 8, 64, 300])
def test_of_equal_scores_the_lowest_number_is_chosen(n_experts):
    scores = torch.zeros(4, n_experts)
    for k in {1, 2, n_experts}:
        assert ff.top_k_routing(scores, k).experts.tolist() == [list(range(k))] * 4
    scores[:, -1] = 1.0
    assert ff.top_k_routing(scores, 2).experts.tolist() == [[n_experts - 1, 0]] * 4


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_must_be_possible(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to the number of experts, 3, got {k}"):
        ff.top_k_routing(torch.zeros(2, 3), k)


def test_gradient_of_routing():
    scores = drawn(6, 5).requires_grad_()
    assert gradcheck(lambda scores: ff.top_k_routing(scores, 2).weights, (scores,))
    # of a lone expert the weight is 1 whatever the score: the router learns nothing through it
    (gradient,) = torch.autograd.grad(ff.top_k_routing(scores, 1).weights.sum(), scores)
    assert not gradient.any()


# ---- the mixture --------------------------------------------------------------------------------


def dense(module, x):
    """Every expert for every token, with weight 0 where it was not chosen."""
    routing = ff.top_k_routing(module.router(x), module.n_active)
    weights = torch.zeros_like(routing.scores).scatter(-1, routing.experts, routing.weights)
    return sum(weights[..., i, None] * expert(x) for i, expert in enumerate(module.experts))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_mixture_equals_the_dense_sum_with_gradients(data):
    n_experts = data.draw(st.integers(2, 6))
    module = mixture(
        n_experts,
        data.draw(st.integers(1, n_experts)),
        feed_forward=data.draw(st.sampled_from(["mlp", "gated"])),
        seed=data.draw(st.integers(0, 99)),
    )
    shape = data.draw(st.lists(st.integers(1, 4), max_size=3))
    x = drawn(*shape, 8, seed=data.draw(st.integers(0, 99))).requires_grad_()
    wanted = (x, *module.parameters())
    ours, theirs = module(x), dense(module, x)
    close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours.sin().sum(), wanted, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(theirs.sin().sum(), wanted, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        close(one, other)


def test_gradcheck_of_the_mixture():
    module = mixture(3, 2)
    assert gradcheck(module, (drawn(4, 8).requires_grad_(),))


def test_only_the_chosen_experts_work():
    module, x, seen = mixture(5, 2), drawn(3, 4, 8), []
    for expert in module.experts:
        expert.register_forward_hook(lambda expert, given, answer: seen.append(len(given[0])))
    module(x)
    assert sum(seen) == 2 * 12 and 0 not in seen
    seen.clear()
    module(x[0, 0])
    assert seen == [1, 1]


def test_experts_of_float32_agree_within_a_hundred_thousandth():
    module, x = mixture(4, 2).float(), drawn(3, 5, 8, dtype=torch.float32)
    close(module(x), dense(module, x))


def test_the_mixture_equals_mixtral():
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    from transformers import MixtralConfig

    shape = MixtralConfig(
        hidden_size=8, intermediate_size=12, num_local_experts=5, num_experts_per_tok=2, experts_implementation="eager"
    )
    theirs, ours = mixtral.MixtralSparseMoeBlock(shape), mixture(5, 2).float()
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.router.weight)
        for i, expert in enumerate(ours.experts):
            theirs.experts.gate_up_proj[i].copy_(torch.cat([expert.gate.weight, expert.up.weight]))
            theirs.experts.down_proj[i].copy_(expert.down.weight)
    x = drawn(3, 7, 8, dtype=torch.float32)
    close(ours(x), theirs(x))
    routing = ff.top_k_routing(ours.router(x.flatten(0, 1)), 2)
    expected = mixtral.load_balancing_loss_func((routing.scores,), 5, 2)
    close(ff.load_balancing_loss(routing.scores, routing.experts), expected)


# ---- load ---------------------------------------------------------------------------------------


def test_load_by_hand():
    experts = torch.tensor([[[0, 2], [0, 1]], [[0, 2], [2, 0]]])  # two texts of two tokens
    assert ff.load(experts, 4).tolist() == [1.0, 0.25, 0.75, 0.0]
    with pytest.raises(ValueError, match="at least one"):
        ff.load(experts[:0], 4)


@settings(deadline=None)
@given(st.integers(2, 6), st.data())
def test_the_balancing_loss_is_k_when_balanced_and_n_when_collapsed(n, data):
    k = data.draw(st.integers(1, n))
    # token i prefers expert i, then i + 1, …: every expert gets as many tokens
    scores = torch.stack([torch.arange(n, 0, -1).float().roll(i) for i in range(n)])
    routing = ff.top_k_routing(scores, k)
    close(ff.load(routing.experts, n), torch.full((n,), k / n))
    close(ff.load_balancing_loss(scores, routing.experts), torch.tensor(float(k)))
    certain = torch.zeros(10, n)
    certain[:, 0] = 100.0
    close(ff.load_balancing_loss(certain, torch.zeros(10, 1, dtype=torch.long)), torch.tensor(float(n)))


def test_the_balancing_loss_pushes_the_busiest_down():
    scores = torch.zeros(8, 3, dtype=torch.float64)
    scores[:, 1] = 0.1
    scores.requires_grad_()
    routing = ff.top_k_routing(scores, 1)
    (gradient,) = torch.autograd.grad(ff.load_balancing_loss(scores, routing.experts), scores)
    assert (gradient[:, 1] > 0).all() and (gradient[:, [0, 2]] < 0).all()


def test_routing_is_kept_on_request_and_forgotten_afterwards():
    transformer = Transformer(config(n_experts=4, n_active_experts=2))
    ids = torch.zeros(2, 5, dtype=torch.long)
    transformer(ids)
    mixtures = [block.feed_forward for block in transformer.blocks]
    assert all(m.routing is None for m in mixtures)
    with ff.kept_routing(transformer) as kept:
        assert kept == mixtures
        transformer(ids)
        assert all(m.routing.experts.shape == (2, 5, 2) and m.routing.scores.shape == (2, 5, 4) for m in kept)
        loss = sum(ff.load_balancing_loss(m.routing.scores, m.routing.experts) for m in kept)
        loss.backward()
        assert all(m.router.weight.grad.abs().sum() > 0 for m in kept)
    assert all(m.routing is None for m in mixtures)
    transformer(ids)
    assert all(m.routing is None for m in mixtures)
    copy.deepcopy(transformer)


# ---- in a Transformer ---------------------------------------------------------------------------


def test_parameters_of_a_mixture():
    count = {n: Transformer(config(n_experts=n)).n_parameters() for n in (1, 4)}
    assert count[4] - count[1] == 2 * (3 * 3 * 8 * 12 + 4 * 8)  # two blocks: three more experts, and the router


def test_a_transformer_of_experts_trains():
    torch.manual_seed(0)
    transformer = Transformer(config(n_experts=4, n_active_experts=2, d_model=16, n_heads=4))
    text = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6] * 40)
    losses = train(transformer, text, steps=60, batch_size=8, context_length=12, learning_rate=1e-2, progress=False)
    assert losses[-1] < 0.5 * losses[0]


def test_a_mixture_with_a_cache_equals_one_pass(tiny):
    """One token at a time, each to its own experts."""
    from course_lib.prediction.kv_cache import KVCache

    transformer = tiny(n_experts=4, n_active_experts=2)
    ids = torch.tensor([[1, 7, 3, 9, 2]])
    with torch.no_grad():
        cache = KVCache(transformer.config, 5)
        pieces = [transformer(ids[:, i : i + 1], cache) for i in range(5)]
        torch.testing.assert_close(torch.cat(pieces, 1), transformer(ids), atol=1e-4, rtol=1e-4)
