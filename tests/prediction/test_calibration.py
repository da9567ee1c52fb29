"""Calibration against NumPy's histograms, and on predictions whose truth is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.prediction.calibration import calibration


def predictions(seed, n, power=1.0):
    """n probabilities, and whether each came: with chance p ** power, so honest where the power is 1."""
    generator = torch.Generator().manual_seed(seed)
    p, luck = torch.rand(2, n, generator=generator, dtype=torch.float64)
    return p, luck < p**power


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 25))
def test_the_bins_are_numpys(seed, n, n_bins):
    p, came = predictions(seed, n)
    edges = np.arange(n_bins + 1) / n_bins
    count, said, true = (np.histogram(p, edges, weights=w)[0] for w in (np.ones(n), p.numpy(), came.double().numpy()))
    ours = calibration(p, came, n_bins)
    np.testing.assert_array_equal(ours.count, count)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(ours.said, said / count)
        np.testing.assert_allclose(ours.came, true / count)
    assert ours.error == pytest.approx(np.abs(said - true).sum() / n)


def test_the_ends_and_borders():
    one = calibration(torch.tensor([0.0, 0.25, 0.5, 0.999, 1.0]), torch.tensor([False, True, True, True, True]), 4)
    assert one.count.tolist() == [1, 1, 1, 2] and one.came.tolist() == [0, 1, 1, 1]
    assert calibration(torch.tensor([1.0, 0.0]), torch.tensor([False, True])).error == 1
    assert calibration(torch.tensor([1.0, 0.0]), torch.tensor([True, False])).error == 0


def test_honest_predictions_have_a_small_error_and_distorted_ones_do_not():
    assert calibration(*predictions(1, 100_000)).error < 0.01
    assert calibration(*predictions(1, 100_000, power=3)).error == pytest.approx(0.25, abs=0.01)  # ∫ p − p³


@pytest.mark.parametrize(
    ("probabilities", "n_bins", "message"),
    [([], 10, "needs predictions"), ([0.5], 0, "n_bins must be at least 1"), ([1.5], 10, "in \\[0, 1\\], got .* 1.5")],
)
def test_what_cannot_be_is_refused(probabilities, n_bins, message):
    with pytest.raises(ValueError, match=message):
        calibration(torch.tensor(probabilities), torch.tensor([True] * len(probabilities), dtype=torch.bool), n_bins)
