"""Probabilities and their measures, held against PyTorch's own, where numbers are large, tiny, or ruled out."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torch_kl

from course_lib.prediction.logits import (
    bits,
    cross_entropy,
    entropy,
    kl_divergence,
    log_softmax,
    perplexity,
    softmax,
)

DTYPES = (torch.float32, torch.float64)
SHAPES = ((7,), (1,), (2, 50), (2, 3, 300))
SPREADS = (1e-3, 1.0, 30.0, 1e4)  # the last: e^score overflows and underflows in both precisions


def scores(shape, spread=4.0, dtype=torch.float64, seed=0, ruled_out=False):
    """Random scores; with `ruled_out`, a third of them −inf, the first of each row never."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if ruled_out:
        out = torch.rand(shape, generator=generator) < 0.33
        out[..., 0] = False
        logits = logits.masked_fill(out, -torch.inf)
    return logits


# ---- softmax and its logarithm --------------------------------------------------------------------


@pytest.mark.parametrize("ruled_out", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_equal_pytorchs(shape, spread, dtype, ruled_out):
    logits = scores(shape, spread, dtype, ruled_out=ruled_out)
    torch.testing.assert_close(softmax(logits), logits.softmax(-1))
    torch.testing.assert_close(log_softmax(logits), logits.log_softmax(-1))
    torch.testing.assert_close(softmax(logits).sum(-1), torch.ones(shape[:-1], dtype=dtype))


def test_a_constant_added_to_all_scores_changes_nothing():
    logits = scores((2, 50)).round(decimals=3)
    for constant in (-(2.0**40), 1000.0, 2.0**40):
        shifted = (logits * 2**10).round() / 2**10 + constant  # exact in float64
        torch.testing.assert_close(softmax(shifted), softmax(shifted - constant), rtol=0, atol=1e-15)


def test_the_logarithm_survives_where_the_probability_does_not():
    logits = torch.tensor([0.0, -200.0])
    assert softmax(logits)[1] == 0 and log_softmax(logits)[1] == -200


def test_all_ruled_out_is_not_a_distribution_here_or_in_pytorch():
    nothing = torch.full((3,), -torch.inf)
    assert softmax(nothing).isnan().all() and nothing.softmax(-1).isnan().all()
    assert log_softmax(nothing).isnan().all() and nothing.log_softmax(-1).isnan().all()


# ---- loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_and_its_gradient_equal_pytorchs(shape, spread, dtype):
    logits = scores(shape, spread, dtype, ruled_out=True).requires_grad_()
    targets = torch.zeros(shape[:-1], dtype=torch.long)  # never ruled out
    flat = logits.reshape(-1, shape[-1]), targets.reshape(-1)
    ours, theirs = cross_entropy(logits, targets), F.cross_entropy(*flat)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_cross_entropy_takes_each_positions_own_target():
    logits, targets = scores((4, 6, 30)), torch.arange(24).view(4, 6)
    torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    assert cross_entropy(torch.tensor([0.0, -torch.inf]), torch.tensor(1)) == torch.inf


@pytest.mark.parametrize(
    ("targets", "message"), [([3], "from 0 to 2, got 3"), ([-1], "got -1"), ([], "at least one position")]
)
def test_targets_that_cannot_be(targets, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy(torch.zeros(len(targets), 3), torch.tensor(targets, dtype=torch.long))


# ---- entropy and the distance to the truth --------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_entropy_and_kl_equal_pytorchs(shape, dtype):
    p = softmax(scores(shape, dtype=dtype, ruled_out=True))
    log_q = log_softmax(scores(shape, dtype=dtype, seed=1))
    torch.testing.assert_close(entropy(p), torch.special.entr(p).sum(-1))
    torch.testing.assert_close(kl_divergence(p, log_q), torch_kl(Categorical(p), Categorical(logits=log_q)))
    torch.testing.assert_close(kl_divergence(p, p.log()), torch.zeros(shape[:-1], dtype=dtype))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**31))
def test_the_expected_loss_is_entropy_and_kl(n, seed):
    p, log_q = softmax(scores((n,), seed=seed)), log_softmax(scores((n,), seed=seed + 1))
    expected = sum(p[i] * cross_entropy(log_q, torch.tensor(i)) for i in range(n))
    torch.testing.assert_close(entropy(p) + kl_divergence(p, log_q), expected)
    assert kl_divergence(p, log_q) >= 0 and 0 <= entropy(p) <= math.log(n) + 1e-9


def test_what_is_ruled_out():
    truth, both = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    assert kl_divergence(truth, both.log()).item() == pytest.approx(math.log(2))
    assert kl_divergence(truth, truth.log()) == 0  # where both say never, nothing is added
    assert kl_divergence(both, truth.log()) == torch.inf  # where the truth says sometimes


# ---- in other words -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 8, 49_152])
def test_equally_likely_tokens(n):
    nats = cross_entropy(torch.zeros(5, n), torch.zeros(5, dtype=torch.long)).item()
    assert perplexity(nats) == pytest.approx(n, rel=1e-5) and bits(nats) == pytest.approx(math.log2(n), rel=1e-5)
