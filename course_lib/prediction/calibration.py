"""Does a probability mean what it says? Of all that was given 70%, seven in ten should come.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (reliability diagram, expected calibration error).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.arguments import Whole, refused, whole

MOST_BINS = 1_000_000


@dataclass(frozen=True)
class Calibration:
    """Predictions sorted into bins of equal width by their probability; an empty bin has NaN for both shares."""

    count: Int[Tensor, " bin"]  # predictions
    said: Float[Tensor, " bin"]  # their mean probability
    came: Float[Tensor, " bin"]  # the share of them that came true

    @property
    def error(self) -> float:
        """The expected calibration error: |said − came|, averaged over the predictions; 0 is perfect, 1 the worst."""
        return float(((self.said - self.came).abs().nan_to_num() * self.count).sum() / self.count.sum())


def calibration(
    probabilities: Float[Tensor, " prediction"], came: Bool[Tensor, " prediction"], n_bins: Whole = 10
) -> Calibration:
    """How often what was given a probability came true, bin by bin.

    Bin i goes from i / n_bins up to, and without, (i + 1) / n_bins; the last one holds 1 as well. A few hundred
    predictions leave chance in every bin: a share of 0.7 among 100 wanders by 0.05.

    Raises:
        ValueError: there are no predictions, a probability is not in [0, 1], or n_bins is not from 1 to a million.
    """
    if (n_bins := whole("n_bins", n_bins)) < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    if n_bins > MOST_BINS:
        raise ValueError(f"n_bins must be at most {MOST_BINS:,}, got {n_bins}")
    for name, row in (("probabilities", probabilities), ("came", came)):
        if not isinstance(row, Tensor) or row.is_meta or row.ndim != 1:
            raise refused(name, "a tensor with one row, (prediction,)", row)
    if came.dtype != torch.bool or not probabilities.is_floating_point() or len(came) != len(probabilities):
        raise ValueError(
            "came must be True or False for each of the probabilities, "
            f"got {came.dtype} for {len(came)} and {probabilities.dtype} for {len(probabilities)}"
        )
    if len(probabilities) == 0:
        raise ValueError("probabilities is empty: calibration needs predictions")
    probabilities, came = probabilities.detach().cpu().double(), came.cpu()
    low, high = float(probabilities.min()), float(probabilities.max())
    if not (low >= 0 and high <= 1 + 1e-6):
        raise ValueError(f"probabilities must be in [0, 1], got values from {low:g} to {high:g}")
    place = (probabilities * n_bins).long().clamp(max=n_bins - 1)
    count = place.bincount(minlength=n_bins)
    said, true = (
        torch.zeros(n_bins, dtype=torch.float64).index_add(0, place, values.double()) / count
        for values in (probabilities, came)
    )
    return Calibration(count, said, true)
