"""Linear probes: can a property be read off a vector by a linear map, on samples that the map was not fitted to?

Sources: Alain & Bengio 2016 (probes at every depth); Hewitt & Liang 2019 (control tasks).
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.arguments import Whole, whole

FOLDS = 5  # each fifth of the samples is held out once
SHUFFLES = 5  # controls; their mean accuracy is given
TINY = 1e-12  # a spread so small beside the numbers themselves is rounding


@dataclass(frozen=True)
class ProbeResult:
    """What a probe got right, and what to hold that against; all three are shares of the samples, from 0 to 1."""

    accuracy: float  # on samples that were held out
    control: float  # the same for shuffled labels
    commonest: float  # of the commonest label: what always saying it would get right


def linear_probe(
    features: Float[Tensor, "sample d"],
    labels: Sequence[Hashable] | Tensor,
    groups: Sequence[Hashable] | Tensor | None = None,
    seed: Whole = 0,
) -> ProbeResult:
    """Read each sample's label off its vector by a linear map, tested on samples that were held out.

    `labels` has one label a sample: words, numbers, or a tensor. `groups` has one group a sample, such as its story or
    its word: whole groups are held out, so no sample is tested by a probe that has seen one of its group. Groups are
    dealt into five folds (`seed` says how); each fold is held out once, so every sample is tested once.

    The probe is ridge regression: features standardised by the training part's mean and standard deviation; for each
    label, one regression on 0 and 1 with an intercept, in closed form, in float64; the label with the largest value is
    the answer. The penalty is d, the number of features: the best one for uncorrelated features when half of the
    variance can be explained (Hoerl, Kennard & Baldwin 1975: d · noise / signal). Nothing is tuned, so nothing is tuned
    on the held-out part.

    The control is what the same probe gets right on shuffled labels, the mean of five shuffles: with nothing to read.
    An accuracy says something as far as it is above both `control` and `commonest`. Where every group has one label
    (groups are words), labels are shuffled among groups, so that all samples of a word still share one: the control
    task of Hewitt & Liang 2019, which a probe can do by remembering words alone. They test words that the probe was
    trained on, and find how much a probe can remember; here words are held out, and remembering is of no use. (Where
    some words have more samples than others, such a shuffle moves the shares of the labels, and the control may lie
    above `commonest`.)

    Accuracies and `commonest` are plain shares of the samples: a large group counts for more than a small one.

    Raises:
        ValueError: there are fewer than two different labels or fewer than five groups, labels or groups are not one a
            sample, or a feature is not a finite number.
    """
    return linear_probes(features, {"labels": labels}, groups, seed)["labels"]


@torch.no_grad()
def linear_probes(
    features: Float[Tensor, "sample d"],
    labels: Mapping[str, Sequence[Hashable] | Tensor],
    groups: Sequence[Hashable] | Tensor | None = None,
    seed: Whole = 0,
) -> dict[str, ProbeResult]:
    """`linear_probe` for several properties of the same samples, each by its name: faster than one after the other.

    Each property gets the result that it would get alone.

    Raises:
        ValueError: as in `linear_probe`, or there is no property.
    """
    _check(features)
    seed = whole("seed", seed)
    groups = list(range(len(features))) if groups is None else _one_a_sample("groups", groups, features)
    labels = {name: _one_a_sample(name, values, features) for name, values in labels.items()}
    _check_kinds(labels, groups)
    folds = _folds(groups, random.Random(seed))
    tasks = [task for values in labels.values() for task in _tasks(values, groups, random.Random(seed))]
    right = iter(_right(features.detach().cpu().double(), tasks, folds).double().mean(1).tolist())
    results = {}
    for name, values in labels.items():
        accuracy, *controls = itertools.islice(right, 1 + SHUFFLES)
        commonest = Counter(values).most_common(1)[0][1] / len(values)
        results[name] = ProbeResult(accuracy, sum(controls) / SHUFFLES, commonest)
    return results


def _tasks(labels: list[Hashable], groups: list[Hashable], rng: random.Random) -> list[Int[Tensor, " sample"]]:
    """The labels numbered, and SHUFFLES times shuffled."""
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    answers = [number[label] for label in labels]
    return [torch.tensor(task) for task in [answers] + [_shuffled(answers, groups, rng) for _ in range(SHUFFLES)]]


def _right(
    x: Float[Tensor, "sample d"], tasks: list[Int[Tensor, " sample"]], folds: Int[Tensor, " sample"]
) -> Bool[Tensor, "task sample"]:
    """Which samples each task's probe gets right when they are held out; the samples come out in the folds' order.

    Tasks differ in their labels alone, so they share all that is made of the features: a fold's sums of products, and
    the factors of the matrix that is solved with.
    """
    order = folds.argsort(stable=True)  # so that a fold is a slice
    sizes = folds.bincount(minlength=FOLDS).tolist()
    x = x[order]
    spread = x.std(0, correction=0)
    spread[spread <= TINY * x.abs().amax(0)] = torch.inf  # a feature that is constant says nothing: it becomes 0
    x = x.sub_(x.mean(0)).div_(spread)  # only so that few digits are lost below: each fold standardises anew
    targets = [F.one_hot(task[order]).double() for task in tasks]  # each (sample, label)
    widths = [target.shape[1] for target in targets]
    y = torch.cat(targets, dim=1)

    right, sum_y = [], y.sum(0)
    parts = [
        (part, part.T @ part, part.T @ target, target)
        for part, target in zip(x.split(sizes), y.split(sizes), strict=True)
    ]
    xx, xy = sum(part[1] for part in parts), sum(part[2] for part in parts)
    for held_x, held_xx, held_xy, held_y in parts:
        n = len(x) - len(held_x)  # what follows is of the training part: the whole without what is held out
        mean_x, mean_y = -held_x.sum(0) / n, (sum_y - held_y.sum(0)) / n  # x sums to 0
        covariance = (xx - held_xx).addr_(mean_x, mean_x, alpha=-n)
        product = (xy - held_xy).addr_(mean_x, mean_y, alpha=-n)
        scale = (covariance.diagonal() / n).clamp(min=0).sqrt()
        scale[scale <= TINY**0.5] = torch.inf  # constant in the training part
        matrix = covariance.div_(scale).div_(scale[:, None])
        matrix.diagonal().add_(x.shape[1])
        solution = torch.cholesky_solve(product / scale[:, None], torch.linalg.cholesky(matrix))
        guesses = (held_x - mean_x) @ (solution / scale[:, None]) + mean_y
        pairs = zip(guesses.split(widths, dim=1), held_y.split(widths, dim=1), strict=True)
        right.append(torch.stack([guess.argmax(1) == truth.argmax(1) for guess, truth in pairs]))
    return torch.cat(right, dim=1)


def _folds(groups: list[Hashable], rng: random.Random) -> Int[Tensor, " sample"]:
    """The fold of each sample: groups, the largest first, each to the fold that has the fewest samples."""
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda group: (-sizes[group], rng.random()))
    filled, fold_of = [0] * FOLDS, {}
    for group in order:
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    return torch.tensor([fold_of[group] for group in groups])


def _shuffled(labels: list[int], groups: list[Hashable], rng: random.Random) -> list[int]:
    """The labels shuffled: among groups where each group has one, else among samples."""
    of_group = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        of_group[group].add(label)
    if any(len(found) > 1 for found in of_group.values()):
        return rng.sample(labels, len(labels))
    values = [label for (label,) in of_group.values()]
    new = dict(zip(of_group, rng.sample(values, len(values)), strict=True))
    return [new[group] for group in groups]


def _one_a_sample(name: str, values: Sequence[Hashable] | Tensor, features: Tensor) -> list[Hashable]:
    shape = tuple(values.shape) if isinstance(values, Tensor) else (len(values),)
    if shape != (len(features),):
        raise ValueError(f"{name} must have one entry for each of the {len(features)} samples, got the shape {shape}")
    return values.tolist() if isinstance(values, Tensor) else list(values)


def _check(features: Tensor) -> None:
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"features must be a table, (sample, d), got the shape {tuple(features.shape)}")
    if not features.isfinite().all():
        raise ValueError("features must be finite numbers, got NaN or infinity")


def _check_kinds(labels: dict[str, list[Hashable]], groups: list[Hashable]) -> None:
    if not labels:
        raise ValueError("labels is empty: name at least one property")
    if len(set(groups)) < FOLDS:
        raise ValueError(
            f"there must be at least {FOLDS} groups (without groups: samples), since {FOLDS} parts are held out in "
            f"turn, got {len(set(groups))}"
        )
    for name, values in labels.items():
        if len(set(values)) < 2:
            raise ValueError(f"{name} must be of at least two kinds, got {values[0]!r} alone: nothing to tell apart")
