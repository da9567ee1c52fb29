"""The training loop: it learns, it repeats itself, it can be interrupted, and it says what is wrong."""

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.training import optimizer, trainer
from course_lib.training.loop import loss, train


def fresh(tiny, **settings):
    transformer = tiny(**settings)
    for parameter in transformer.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    return transformer


@pytest.fixture
def tokens():
    return torch.randint(50, (400,), generator=torch.Generator().manual_seed(1))


SMALL = dict(batch_size=4, context_length=10, progress=False)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_learns_one_window_by_heart(tiny, family):
    tokens = torch.arange(21) * 7 % 50
    transformer = fresh(tiny, family=family)
    losses = train(transformer, tokens, steps=100, batch_size=1, context_length=20, learning_rate=2e-2, progress=False)
    assert losses[0] > 3 and losses[-1] < 0.1
    assert loss(transformer, tokens, context_length=20) < 0.1


def test_the_same_seed_gives_the_same_losses(tiny, tokens):
    one, again, other = (train(fresh(tiny), tokens, steps=5, seed=seed, **SMALL) for seed in (1, 1, 2))
    assert one == again and one != other and len(one) == 5


def test_the_first_loss_is_that_of_the_model_as_it_came(tiny, tokens):
    transformer = fresh(tiny)
    expected = loss(transformer, tokens[:11], context_length=10)
    assert train(transformer, tokens[:11], steps=1, **SMALL)[0] == pytest.approx(expected, abs=1e-5)


def test_loss_is_the_mean_over_windows_side_by_side(tiny, tokens):
    transformer = fresh(tiny)
    each = []
    for start in range(0, 390, 10):  # 39 windows; the last of 400 tokens have no token after them
        logits = transformer(tokens[None, start : start + 10])[0]
        each.append(F.cross_entropy(logits, tokens[start + 1 : start + 11]).item())
    assert loss(transformer, tokens, context_length=10, batch_size=7) == pytest.approx(sum(each) / 39, abs=1e-5)


def test_loss_with_a_past(tiny, tokens):
    transformer = fresh(tiny)
    each = []
    for last in range(7, 399):  # windows of 10 guess three tokens each, from 8, 9 and 10 tokens
        start = (last - 7) // 3 * 3
        logits = transformer(tokens[None, start : last + 1])[0, -1]
        each.append(F.cross_entropy(logits, tokens[last + 1]).item())
    n = len(range(0, 390, 3)) * 3
    measured = loss(transformer, tokens, context_length=10, past=7)
    assert measured == pytest.approx(sum(each[:n]) / n, abs=1e-5)


def test_each_step_is_adamw_on_the_windows_drawn(tiny, tokens):
    """One step by hand: the clipped gradient, then AdamW's first move (its two averages cancel: lr · g / |g|)."""
    transformer, before = fresh(tiny), fresh(tiny)
    train(transformer, tokens, steps=1, learning_rate=1e-3, **SMALL)
    for parameter, old in zip(transformer.parameters(), before.parameters(), strict=True):
        moved = parameter - old * (1 - 1e-3 * optimizer.WEIGHT_DECAY)
        assert moved.abs().max() <= 1e-3 * 1.001 and moved.abs().max() > 0.5e-3


def test_mode_and_gradients_are_left_as_they_were(tiny, tokens):
    transformer = fresh(tiny).eval()
    train(transformer, tokens, steps=1, **SMALL)
    assert not transformer.training
    transformer.train()
    loss(transformer, tokens, context_length=10)
    assert transformer.training
    assert not torch.tensor(loss(transformer, tokens, context_length=10)).requires_grad


def test_an_interrupt_keeps_what_was_learned(tiny, tokens, monkeypatch):
    draws = iter(range(3))

    def interrupted(*arguments):
        if next(draws, None) is None:
            raise KeyboardInterrupt
        return random_starts(*arguments)

    random_starts = trainer.random_starts
    monkeypatch.setattr(trainer, "random_starts", interrupted)
    transformer, before = fresh(tiny).eval(), fresh(tiny)
    losses = train(transformer, tokens, steps=10, **SMALL)
    assert len(losses) == 3 and not transformer.training
    assert not torch.equal(transformer.token_embedding.weight, before.token_embedding.weight)


def test_a_bar_with_the_loss(tiny, tokens, capfd):
    train(fresh(tiny), tokens, steps=3, batch_size=2, context_length=5)
    shown = capfd.readouterr().err
    assert "3/3" in shown and "loss=" in shown
    train(fresh(tiny), tokens, steps=3, **SMALL)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(steps=0), "steps must be at least 1, got 0"),
        (dict(learning_rate=0.0), "learning_rate must be above 0, such as 3e-3, got 0"),
        (dict(learning_rate=math.nan), "learning_rate must be above 0"),
        (dict(context_length=41), "context_length must be at most the model's, 40, got 41"),
        (dict(batch_size=0), "batch_size must be at least 1"),
        (dict(tokens=torch.arange(10)), "take a longer text"),
        (dict(tokens=torch.arange(60)), "from 0 to 49, got 59: .*, or make the model with vocab_size=60"),
        (dict(tokens=torch.arange(-1, 40)), "from 0 to 49, got -1"),
    ],
)
def test_what_cannot_be_trained_on(tiny, tokens, settings, message):
    settings = dict(steps=1, tokens=tokens) | SMALL | settings
    with pytest.raises(ValueError, match=message):
        train(tiny(), settings.pop("tokens"), **settings)


def test_what_has_no_loss(tiny, tokens):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        loss(tiny(), tokens, context_length=10, batch_size=0)
    with pytest.raises(ValueError, match="past must be from 0 to context_length − 1, 9, got 10"):
        loss(tiny(), tokens, context_length=10, past=10)
    with pytest.raises(ValueError, match="take a longer text"):
        loss(tiny(), tokens[:10], context_length=10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny, tokens):
    on_cpu = train(fresh(tiny), tokens, steps=3, **SMALL)
    on_gpu = train(fresh(tiny).cuda(), tokens, steps=3, **SMALL)
    assert on_gpu == pytest.approx(on_cpu, abs=1e-2)
