"""AdamW, clipping and the schedule against PyTorch's own, in float64."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.training.optimizer import AdamW, adamw_step, clip_gradients, schedule

SHAPES = ((3, 4), (5,), ())
STEPS = 100


def normal(source, *shape):
    return torch.randn(shape, generator=source, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1e-5, 1.0),
    st.floats(0, 0.999),
    st.floats(0, 0.9999),
    st.floats(1e-10, 1e-2),
    st.floats(0, 0.5),
    st.integers(0, 2**31),
)
def test_a_hundred_steps_equal_torch(learning_rate, beta, beta_square, epsilon, weight_decay, seed):
    """Identical gradients, of sizes from tiny to large, some all zero, and a rate that changes."""
    source = torch.Generator().manual_seed(seed)
    ours = [normal(source, *shape) for shape in SHAPES]
    theirs = [parameter.clone().requires_grad_() for parameter in ours]
    mine = AdamW(ours, learning_rate, (beta, beta_square), epsilon, weight_decay)
    peer = torch.optim.AdamW(
        theirs, lr=learning_rate, betas=(beta, beta_square), eps=epsilon, weight_decay=weight_decay
    )
    for step in range(STEPS):
        size = 10 ** (4 * torch.rand((), generator=source).item() - 3) * (step % 7 != 3)
        for one, other in zip(ours, theirs, strict=True):
            one.grad = size * normal(source, *one.shape)
            other.grad = one.grad.clone()
        mine.learning_rate = peer.param_groups[0]["lr"] = learning_rate * (0.1 + schedule(step, STEPS))
        mine.step()
        peer.step()
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other.detach(), atol=1e-6, rtol=1e-6)


def test_the_first_step_by_hand():
    """Both averages begin at zero; freed of that, they are g and g²: the step is the learning rate, whatever g is."""
    gradient = torch.tensor([1e-3, -5.0, 0.0], dtype=torch.float64)
    parameter, zeros = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    moved, mean, mean_square = adamw_step(parameter, gradient, zeros, zeros, 1, 0.1, (0.9, 0.99), 0.0 + 1e-12, 0.5)
    torch.testing.assert_close(moved, torch.tensor([0.85, 1.05, 0.95], dtype=torch.float64))
    torch.testing.assert_close(mean, 0.1 * gradient)
    torch.testing.assert_close(mean_square, 0.01 * gradient**2)
    assert parameter.tolist() == [1, 1, 1] and not zeros.any()  # what came in is left alone


def test_steps_count_from_1():
    one = torch.zeros(2)
    with pytest.raises(ValueError, match="step must be at least 1, the first step, got 0"):
        adamw_step(one, one, one, one, 0, 0.1)


def test_the_optimizer_skips_what_has_no_gradient_and_forgets_on_request():
    moving, still = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = AdamW([moving, still], 0.1)
    moving.sum().backward()
    optimizer.step()
    assert (moving < 1).all() and (still == 1).all()
    optimizer.zero_grad()
    assert moving.grad is None


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_clipping_equals_torch(longest, size, seed):
    source = torch.Generator().manual_seed(seed)
    gradients = [size * normal(source, *shape) for shape in SHAPES]
    parameters = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    before = [gradient.clone() for gradient in gradients]
    clipped, length = clip_gradients(gradients, longest)
    assert length == pytest.approx(torch.nn.utils.clip_grad_norm_(parameters, longest).item(), rel=1e-9)
    for ours, parameter, gradient, old in zip(clipped, parameters, gradients, before, strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-9, atol=0)
        assert torch.equal(gradient, old)
    if length < longest:
        assert all(torch.equal(ours, old) for ours, old in zip(clipped, before, strict=True))


def test_clipping_by_hand():
    (clipped,), length = clip_gradients([torch.tensor([3.0, 4.0])], 1.0)
    assert length == 5
    torch.testing.assert_close(clipped, torch.tensor([0.6, 0.8]))
    with pytest.raises(ValueError, match="longest must be above 0, got 0"):
        clip_gradients([torch.ones(1)], 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 120), st.data())
def test_the_schedule_equals_torchs(steps, data):
    warm_up = data.draw(st.integers(2, steps))
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / warm_up, total_iters=warm_up - 1)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warm_up + 1)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warm_up - 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants optimizer.step() in between, and there is nothing to step
        for step in range(steps):
            assert schedule(step, steps, warm_up) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
            both.step()


def test_the_schedule_by_hand():
    rates = [schedule(step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert max(rates) == 1 and peak == 4 and rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True) and 0 < rates[-1] < 0.001
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert schedule(0, 1) == 1
    assert schedule(4 + 48, 100) == pytest.approx(0.5, abs=1e-9)  # half of the way down
    assert all(math.isfinite(schedule(step, 3, warm_up=1)) for step in range(3))
