"""Linear probes: can a property be read off a vector by a linear map, on samples that the map was not fitted to?

Sources: Alain & Bengio 2016 (probes at every depth); Hewitt & Liang 2019 (control tasks).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

FOLDS = 5  # each fifth of the samples is held out once
SHUFFLES = 5  # controls; their mean accuracy is given


@dataclass(frozen=True)
class ProbeResult:
    """What a probe got right, and what to hold that against; all three are shares of the samples, from 0 to 1."""

    accuracy: float  # on samples that were held out
    control: float  # the same for shuffled labels
    commonest: float  # of the commonest label: what always saying it would get right


@torch.no_grad()
def linear_probe(
    features: Float[Tensor, "sample d"],
    labels: Sequence[Hashable] | Tensor,
    groups: Sequence[Hashable] | Tensor | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Read each sample's label off its vector by ridge regression, tested on samples that were held out.

    `labels` has one label a sample (numbers, words, a tensor). `groups` has one group a sample, such as its story or
    its word: whole groups are held out, so that nothing can be known from a sample of the same group. Groups are dealt
    into five folds (`seed`); each fold is held out once, so every sample is tested once.

    The probe: features standardised with the training part's mean and standard deviation; one regression on 0/1 for
    each label, in closed form, in float64; the label with the largest value is the answer. The penalty is d, the
    number of features: the best one if features are uncorrelated and half of the variance can be explained (Hoerl,
    Kennard & Baldwin 1975: d · noise / signal). Nothing is tuned, so nothing can be tuned on the held-out part.

    The control is the same probe on labels that were shuffled, the mean of five shuffles: what a probe gets right
    when there is nothing to read. Where all samples of a group share their label (groups are words), labels are
    shuffled among groups, so that each word keeps one: as in Hewitt & Liang's control task, where a probe can do well
    only by remembering words. Their words stand on both sides of the split; ours do not, so a control far above
    `commonest` says that something leaked.

    `accuracy`, `control` and `commonest` count each sample once, whatever the size of its group.

    Raises:
        ValueError: there are fewer than two labels or fewer than five groups, a length does not fit, or a feature is
            not a finite number.
    """
    labels, groups = _listed(labels), list(range(len(features))) if groups is None else _listed(groups)
    _check(features, labels, groups)
    names = sorted(set(labels), key=labels.index)
    answers = torch.tensor([names.index(label) for label in labels])
    rng = random.Random(seed)
    folds = _folds(groups, rng)
    tasks = torch.stack([answers] + [_shuffled(answers, groups, rng) for _ in range(SHUFFLES)])  # (task, sample)
    right = _right(features.detach().cpu().double(), tasks, len(names), folds).double().mean(1)
    return ProbeResult(
        accuracy=right[0].item(),
        control=right[1:].mean().item(),
        commonest=Counter(labels).most_common(1)[0][1] / len(labels),
    )


def _right(
    x: Float[Tensor, "sample d"], tasks: Int[Tensor, "task sample"], n_labels: int, folds: Int[Tensor, " sample"]
) -> Tensor:
    """Which samples each task's probe gets right when they are held out: Bool (task, sample).

    The tasks differ in their labels alone, so they share the matrix that is solved with.
    """
    y = torch.nn.functional.one_hot(tasks, n_labels).double().permute(1, 0, 2).flatten(1)  # (sample, task · label)
    x = x - x.mean(0)  # only so that no digits are lost below; each fold takes its own mean off again
    held = [folds == fold for fold in range(FOLDS)]
    gram, product = [x[h].T @ x[h] for h in held], [x[h].T @ y[h] for h in held]
    right = torch.zeros_like(tasks, dtype=torch.bool)
    for fold, h in enumerate(held):
        n = int((~h).sum())
        mean_x, mean_y = x[~h].mean(0), y[~h].mean(0)
        xx = sum(g for i, g in enumerate(gram) if i != fold) - n * mean_x.outer(mean_x)
        xy = sum(p for i, p in enumerate(product) if i != fold) - n * mean_x.outer(mean_y)
        scale = (xx.diagonal() / n).clamp(min=0).sqrt()
        scale[scale < 1e-9 * scale.max()] = torch.inf  # a feature that is constant in training says nothing
        xx = xx / scale.outer(scale) + len(xx) * torch.eye(len(xx), dtype=x.dtype)
        solution = torch.cholesky_solve(xy / scale[:, None], torch.linalg.cholesky(xx))
        guesses = (x[h] - mean_x) / scale @ solution + mean_y
        guesses = guesses.unflatten(1, (len(tasks), n_labels)).argmax(-1).T  # (task, held-out sample)
        right[:, h] = guesses == tasks[:, h]
    return right


def _folds(groups: list[Hashable], rng: random.Random) -> Int[Tensor, " sample"]:
    """The fold of each sample: groups, the largest first, each to the fold that has the fewest samples."""
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda group: (-sizes[group], rng.random()))
    filled, fold_of = [0] * FOLDS, {}
    for group in order:
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    return torch.tensor([fold_of[group] for group in groups])


def _shuffled(labels: Int[Tensor, " sample"], groups: list[Hashable], rng: random.Random) -> Int[Tensor, " sample"]:
    """The labels shuffled: among groups where each group has one, else among samples."""
    of_group = defaultdict(set)
    for label, group in zip(labels.tolist(), groups, strict=True):
        of_group[group].add(label)
    if all(len(found) == 1 for found in of_group.values()):
        values = [found.pop() for found in of_group.values()]
        rng.shuffle(values)
        new = dict(zip(of_group, values, strict=True))
        return torch.tensor([new[group] for group in groups])
    values = labels.tolist()
    rng.shuffle(values)
    return torch.tensor(values)


def _listed(values: Sequence[Hashable] | Tensor) -> list[Hashable]:
    return values.tolist() if isinstance(values, Tensor) else list(values)


def _check(features: Tensor, labels: list[Hashable], groups: list[Hashable]) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be (sample, d), got the shape {tuple(features.shape)}")
    for name, values in (("labels", labels), ("groups", groups)):
        if len(values) != len(features):
            raise ValueError(f"{name} must have one entry a sample: got {len(values)} for {len(features)} samples")
    if len(set(labels)) < 2:
        raise ValueError(
            f"labels must be of at least two kinds, got {labels[0]!r} alone: there is nothing to tell apart"
        )
    if len(set(groups)) < FOLDS:
        raise ValueError(
            f"there must be at least {FOLDS} groups, one for each fold, got {len(set(groups))}: "
            "give more samples, or leave groups out"
        )
    if not features.isfinite().all():
        raise ValueError("features must be finite numbers, got NaN or infinity")
