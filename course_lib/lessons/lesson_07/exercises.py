"""Lesson 07: the two norms, the residual wiring, and how much of a gradient arrives."""

import math

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import only_if
from course_lib.transformer_block import normalization

EPS = 1e-5
SMALL_EPS = (0.001, 0.05)  # less and more than the variance of small rows


def vectors(random, *shape, size=1.0):
    """Rows with a mean of about 2 and a variance of about 6 (times size), in no row small beside 0.00001."""
    places = torch.rand(*shape, generator=random).argsort(-1)
    spread = torch.linspace(-4, 4, shape[-1])[places]
    return size * (2 + spread + 0.5 * torch.randn(*shape, generator=random))


def weights(random, d):
    """Weights from 0.5 to 2.5, none of them near 1 for all."""
    return 0.5 + 2 * torch.rand(d, generator=random)


def alone(x, *_):
    return x.ndim > 1  # where a row is all there is, a mistake about other rows says nothing


def in_texts(x, *_):
    return x.ndim > 2  # where one prompt is all there is, its positions are everything


# ---- layer_norm -----------------------------------------------------------------------------------


def layer_inputs(random, *shapes, eps=EPS, size=1.0):
    return [
        (vectors(random, *shape, size=size), weights(random, shape[-1]), torch.randn(shape[-1], generator=random), eps)
        for shape in shapes
    ]


def one_row(norm, random):
    """one row: mean 0, variance 1, then weight and bias"""
    norm.compare(layer_inputs(random, (4,), (6,)))


def many_rows(norm, random):
    """several rows, each by itself"""
    norm.compare(layer_inputs(random, (3, 3), (4, 4)))  # squares: a mean without keepdim is wrong, and no crash


def batches(norm, random):
    """other shapes: (rows, d) and (batch, position, d)"""
    norm.compare(layer_inputs(random, (2, 5), (2, 3, 5), (2, 1, 4), (1, 1, 3), (2, 2, 2, 3)))


def far_from_0(norm, random):
    """rows far from 0: the variance is that of the differences from the mean"""
    inputs = []
    for far in (3_000.25, -3_000.25, 2_000.25):
        [(_, weight, bias, eps)] = layer_inputs(random, (4,))
        row = torch.tensor([1.0, -2.0, 4.0, -3.0])  # the mean is exact, and the squares are not
        inputs.append(
            (far + row[torch.randperm(4, generator=random)] * torch.tensor([[1.0], [2.0]]), weight, bias, eps)
        )
    norm.compare(inputs)


def eps_counts(norm, random):
    """eps stands under the root, beside the variance"""
    norm.compare([given for eps in SMALL_EPS for given in layer_inputs(random, (2, 4), eps=eps, size=0.03)])


def alike(norm, random):
    """a row of equal numbers gives the bias"""
    inputs = []
    for d in (3, 5):
        [(_, weight, bias, eps)] = layer_inputs(random, (d,))
        number = torch.randint(-3, 4, (2, 1), generator=random).float()
        inputs.append((number.expand(2, d).contiguous(), weight, bias, eps))
    norm.compare(inputs)


def layered(mean=None, variance=None, divisor=None, end=None):
    """LayerNorm by somebody who does all right but for what is given."""

    def formula(x, weight, bias, eps):
        m = mean(x) if mean else x.mean(-1, keepdim=True)
        centred = x - m
        v = variance(x, centred) if variance else centred.pow(2).mean(-1, keepdim=True)
        normal = centred / (divisor(v, eps) if divisor else (v + eps).sqrt())
        return end(normal, weight, bias) if end else normal * weight + bias

    return formula


def flat_means(x, weight, bias, eps):
    """Mean and variance without keepdim: right for one row, of other rows' numbers for a square."""
    centred = x - x.mean(-1)
    return centred / (centred.pow(2).mean(-1) + eps).sqrt() * weight + bias


def flat_statistics(x, weight, bias, eps):
    """The same, both taken from x itself."""
    return (x - x.mean(-1)) / (x.var(-1, correction=0) + eps).sqrt() * weight + bias


def flat_variance(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1) + eps).sqrt() * weight + bias


def over(dims, told_apart=alone):
    def formula(x, weight, bias, eps):
        centred = x - x.mean(dims, keepdim=True)
        return centred / (centred.pow(2).mean(dims, keepdim=True) + eps).sqrt() * weight + bias

    return only_if(told_apart, formula)


def weighted_first(x, weight, bias, eps):
    return normalization.layer_norm(x * weight, torch.ones_like(weight), bias, eps)


KEEPDIM = "keepdim=True is missing in {}: each row is measured by other rows' numbers"
LAYER_NORM = Exercise(
    name="layer_norm",
    lesson="07",
    title="LayerNorm: mean 0, variance 1, then weight and bias",
    oracle=lambda x, weight, bias, eps: normalization.layer_norm(x, weight, bias, eps),
    checks={"rows": (one_row, many_rows, batches, far_from_0), "eps": (eps_counts, alike)},
    mistakes={
        "its variance is the mean square less the squared mean: of large numbers, the difference is lost": layered(
            variance=lambda x, c: x.pow(2).mean(-1, keepdim=True) - x.mean(-1, keepdim=True).pow(2)
        ),
        "its variance divides by d − 1, as torch.var does: here it is the mean of the squares, over d": layered(
            variance=lambda x, c: c.pow(2).sum(-1, keepdim=True) / (x.shape[-1] - 1)
        ),
        "the mean is not subtracted: that is a division alone": lambda x, w, b, e: (
            x / (x.var(-1, correction=0, keepdim=True) + e).sqrt() * w + b
        ),
        "it does not subtract the mean, nor leave it out of the squares: that is RMSNorm, with a bias": (
            lambda x, w, b, e: normalization.rms_norm(x, w, e) + b
        ),
        "it divides by the root of the mean square of x: take the squares after the mean is subtracted": layered(
            variance=lambda x, c: x.pow(2).mean(-1, keepdim=True)
        ),
        "it subtracts the mean and does not divide by the standard deviation": layered(
            divisor=lambda v, eps: torch.ones_like(v)
        ),
        "it divides by the variance: by its root": layered(divisor=lambda v, eps: v + eps),
        "eps is added after the root: it belongs under it, to the variance": layered(
            divisor=lambda v, eps: v.sqrt() + eps
        ),
        "it does not use eps": layered(divisor=lambda v, eps: v.sqrt()),
        "its eps is always 0.00001: use the one that is given": layered(divisor=lambda v, eps: (v + EPS).sqrt()),
        "it takes the larger of variance and eps: add them": layered(divisor=lambda v, eps: v.clamp(min=eps).sqrt()),
        "the bias is missing": layered(end=lambda n, w, b: n * w),
        "the weight is missing": layered(end=lambda n, w, b: n + b),
        "weight and bias are missing": layered(end=lambda n, w, b: n),
        "the bias is weighted, too: first the weight, then the bias": layered(end=lambda n, w, b: (n + b) * w),
        "weight and bias have changed places": layered(end=lambda n, w, b: n * b + w),
        "the weight comes before the norm, which undoes it: multiply afterwards": weighted_first,
        "it takes one mean over everything: each row has its own, dim=-1": over(None),
        "it normalizes columns, over the first dimension: each row by itself, dim=-1": over(0),
        "it takes one mean for all positions of a prompt: each row has its own, dim=-1": over((-2, -1), in_texts),
        KEEPDIM.format("both means, of x and of the squares"): only_if(alone, flat_means),
        KEEPDIM.format("mean and variance of x"): only_if(alone, flat_statistics),
        KEEPDIM.format("the variance"): only_if(alone, flat_variance),
    },
    hints=(
        "Three steps, all over the last dimension: the mean; what is left of x without it; the mean of its squares, "
        "which is the variance. With `keepdim=True` a mean keeps its place, (…, 1), and goes with every number of its "
        "own row.",
        "`centred = x - x.mean(dim=-1, keepdim=True)`, and the variance is the mean of `centred.pow(2)` in the same "
        "way. Divide centred by the root of variance + eps.",
        "`centred / (variance + eps).sqrt() * weight + bias`.",
    ),
)


# ---- rms_norm -------------------------------------------------------------------------------------


def rms_inputs(random, *shapes, eps=EPS, size=1.0):
    return [(vectors(random, *shape, size=size), weights(random, shape[-1]), eps) for shape in shapes]


def one_rms_row(norm, random):
    """one row: divided by the root of its mean square, then weighted"""
    norm.compare(rms_inputs(random, (4,), (6,)))


def many_rms_rows(norm, random):
    """several rows, each by itself"""
    norm.compare(rms_inputs(random, (3, 3), (4, 4)))


def rms_batches(norm, random):
    """other shapes: (rows, d) and (batch, position, d)"""
    norm.compare(rms_inputs(random, (2, 5), (2, 3, 5), (2, 1, 4), (1, 1, 3), (2, 2, 2, 3)))


def rms_eps_counts(norm, random):
    """eps stands under the root, beside the mean square"""
    norm.compare([given for eps in SMALL_EPS for given in rms_inputs(random, (2, 4), eps=eps, size=0.03)])


def zeros(norm, random):
    """a row of zeros stays zeros"""
    norm.compare((torch.zeros(2, d), weights(random, d), EPS) for d in (3, 5))


def scaled(divisor, end=None, source=None):
    """RMSNorm by somebody who divides by something else, or ends in another way."""

    def formula(x, weight, eps):
        x = source(x) if source else x
        normal = x / divisor(x, eps)
        return end(normal, weight) if end else normal * weight

    return formula


def root_mean_square(x, eps):
    return (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rms_over(dims, told_apart=alone):
    def formula(x, weight, eps):
        return x / (x.pow(2).mean(dims, keepdim=True) + eps).sqrt() * weight

    return only_if(told_apart, formula)


RMS_NORM = Exercise(
    name="rms_norm",
    lesson="07",
    title="RMSNorm: the norm of Llama and SmolLM2",
    oracle=lambda x, weight, eps: normalization.rms_norm(x, weight, eps),
    checks={"rows": (one_rms_row, many_rms_rows, rms_batches), "eps": (rms_eps_counts, zeros)},
    mistakes={
        "it subtracts the mean: RMSNorm leaves it in": scaled(root_mean_square, source=lambda x: x - x.mean(-1, True)),
        "it divides by the standard deviation: by the root of the mean square, the mean left in": scaled(
            lambda x, eps: (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
        ),
        "it divides by the standard deviation, as torch.std gives it: by the root of the mean square": scaled(
            lambda x, eps: (x.var(-1, keepdim=True) + eps).sqrt()
        ),
        "it divides by the row's length, the root of the *sum* of squares: take their mean": scaled(
            lambda x, eps: (x.pow(2).sum(-1, keepdim=True) + eps).sqrt()
        ),
        "it divides by the mean of the sizes (absolute values): by the root of the mean square": scaled(
            lambda x, eps: x.abs().mean(-1, keepdim=True) + eps
        ),
        "it divides by the mean square: by its root": scaled(lambda x, eps: x.pow(2).mean(-1, keepdim=True) + eps),
        "it squares the mean: square every number first, then take the mean": scaled(
            lambda x, eps: (x.mean(-1, keepdim=True).pow(2) + eps).sqrt()
        ),
        "it multiplies by the root of the mean square: divide": scaled(lambda x, eps: 1 / root_mean_square(x, eps)),
        "eps is added after the root: it belongs under it, to the mean square": scaled(
            lambda x, eps: x.pow(2).mean(-1, keepdim=True).sqrt() + eps
        ),
        "it does not use eps": scaled(lambda x, eps: x.pow(2).mean(-1, keepdim=True).sqrt()),
        "its eps is always 0.00001: use the one that is given": scaled(lambda x, eps: root_mean_square(x, EPS)),
        "it takes the larger of mean square and eps: add them": scaled(
            lambda x, eps: x.pow(2).mean(-1, keepdim=True).clamp(min=eps).sqrt()
        ),
        "the weight is missing": scaled(root_mean_square, end=lambda n, w: n),
        "it weights by 1 + weight, as some models do: here the weight itself": scaled(
            root_mean_square, end=lambda n, w: n * (1 + w)
        ),
        "it adds the weight: multiply": scaled(root_mean_square, end=lambda n, w: n + w),
        "it divides by the weight: multiply": scaled(root_mean_square, end=lambda n, w: n / w),
        "the weight comes before the norm, and counts in the mean square: multiply afterwards": (
            lambda x, w, e: normalization.rms_norm(x * w, torch.ones_like(w), e)
        ),
        "it takes one mean over everything: each row has its own, dim=-1": rms_over(None),
        "it normalizes columns, over the first dimension: each row by itself, dim=-1": rms_over(0),
        "it takes one mean for all positions of a prompt: each row has its own, dim=-1": rms_over((-2, -1), in_texts),
        KEEPDIM.format("the mean of the squares"): only_if(
            alone, lambda x, w, e: x / (x.pow(2).mean(-1) + e).sqrt() * w
        ),
    },
    hints=(
        "From the inside out: square every number, take the mean over the last dimension, add eps, take the root. "
        "x is divided by that and multiplied by weight.",
        "`x.pow(2).mean(dim=-1, keepdim=True)` has the shape (…, 1): one mean square for each row, in a place where "
        "it goes with all numbers of that row.",
        "`x / (mean_square + eps).sqrt() * weight`.",
    ),
)


# ---- residual_block -------------------------------------------------------------------------------


def third(x):
    return x / 3


def square(x):
    return x * x


def in_plain_numbers(wire, random):
    """a norm that divides by 3 and a part that squares: x + (x / 3)²"""
    draws = [3 * torch.randint(2, 9, (1, 1, 2), generator=random).float() for _ in range(3)]
    wire.compare((x, third, square) for x in draws)


def with_matrices(wire, random):
    """a real norm, and parts with matrices, for a batch"""
    inputs = []
    for batch, position, d in ((1, 2, 3), (2, 3, 4)):
        matrix = torch.randn(d, d, generator=random)

        def norm(x):
            return x / root_mean_square(x, EPS)

        def part(x, matrix=matrix):
            return torch.tanh(x @ matrix) + 0.5

        inputs.append((vectors(random, batch, position, d), norm, part))
    wire.compare(inputs)


def beyond_a_row(wire, random):
    """a norm and a part that look at several positions and texts: they get all of x at once"""

    def over_positions(x):
        return x - x.mean(1, keepdim=True)

    def over_texts(x):
        return x + x.cumsum(1) + x.sum(0)

    inputs = [(vectors(random, batch, 3, 2), over_positions, over_texts) for batch in (1, 2)]
    wire.compare([*inputs, *((x, third, over_positions) for x, *_ in inputs)])


def idle_part(wire, random):
    """a part that writes nothing leaves the stream as it is"""

    def nothing(x):
        return torch.zeros_like(x)

    wire.compare((vectors(random, 2, 2, 3), third, nothing) for _ in range(2))


RESIDUAL_BLOCK = Exercise(
    name="residual_block",
    lesson="07",
    title="pre-norm: the part reads a normalized copy and adds to the stream",
    oracle=lambda x, norm, part: x + part(norm(x)),
    checks={"wiring": (in_plain_numbers, with_matrices, beyond_a_row, idle_part)},
    mistakes={
        "the residual connection is missing: what the part gives is *added* to x": lambda x, n, p: p(n(x)),
        "the norm is missing: the part reads a normalized copy of x": lambda x, n, p: x + p(x),
        "neither norm nor residual connection: that is the part alone": lambda x, n, p: p(x),
        "it adds to the normalized copy: the stream itself, x, must go on untouched by any norm": lambda x, n, p: (
            n(x) + p(n(x))
        ),
        "the norm stands on the sum: that is post-norm; here it stands before the part": lambda x, n, p: n(x + p(x)),
        "the norm stands before the part and once more on the sum: the sum stays as it is": lambda x, n, p: n(
            x + p(n(x))
        ),
        "the norm stands behind the part: the part *reads* a normalized copy": lambda x, n, p: x + n(p(x)),
        "the norm is on the wrong way: x goes on as it is, and the part reads the copy": lambda x, n, p: n(x) + p(x),
        "the norm stands behind the part, and nothing is added": lambda x, n, p: n(p(x)),
        "the part reads the sum of x and its copy: it reads the copy alone": lambda x, n, p: p(x + n(x)),
        "the sum is what the part reads and adds: the copy alone is read": lambda x, n, p: x + p(x + n(x)),
        "the part is not used: x + part(norm(x))": lambda x, n, p: x + n(x),
        "norm and part get one position after the other: they get all of x, since they may look at several": (
            lambda x, n, p: torch.cat([x[:, i : i + 1] + p(n(x[:, i : i + 1])) for i in range(x.shape[1])], dim=1)
        ),
        "norm and part get one text after the other: they get all of x": lambda x, n, p: torch.cat(
            [row[None] + p(n(row[None])) for row in x]
        ),
        "it gives x back as it came": lambda x, n, p: x,
        "it subtracts what the part gives: add": lambda x, n, p: x - p(n(x)),
        "it multiplies by what the part gives: add": lambda x, n, p: x * p(n(x)),
        "it takes the mean of the two: add them": lambda x, n, p: (x + p(n(x))) / 2,
        "it adds what the part gives twice": lambda x, n, p: x + 2 * p(n(x)),
    },
    hints=(
        "Two ways lead through the block. One is x itself, and nothing is done to it. On the other stand the norm and "
        "then the part. At the end the two meet.",
        "The part reads `norm(x)`. Its result is added to x, not to `norm(x)`.",
        "`return x + part(norm(x))`. (`x += …` would change the tensor that you were given.)",
    ),
)


# ---- gradient_ratio -------------------------------------------------------------------------------


def gradients(random, *sizes, shape=(2, 3)):
    """One tensor for each layer: of another shape each, and about this size."""
    return [
        size * (1 + torch.rand(shape[0] + i, shape[1], generator=random)) * (-1) ** i for i, size in enumerate(sizes)
    ]


def length(tensor, dtype=torch.float64):
    return tensor.to(dtype).pow(2).sum().sqrt().item()


def ratio_by(measure):
    """The ratio by somebody who measures a tensor in another way."""

    def formula(layers):
        first, last = (measure(layers[i].double()) for i in (0, -1))
        return float(first / last) if last > 0 else math.nan

    return formula


def ratio_of(first, last, layers):
    first, last = length(first(layers)), length(last(layers))
    return first / last if last > 0 else math.nan


def in_float32(layers):
    first, last = (length(layers[i], torch.float32) for i in (0, -1))
    return first / last if last > 0 else math.nan


def in_float32_or_zero(layers):
    first, last = (length(layers[i], torch.float32) for i in (0, -1))
    return first / last if last > 0 else 0.0


def at_zero(value):
    """Right, but for another answer where the last length is 0."""

    def formula(layers):
        first, last = length(layers[0]), length(layers[-1])
        return first / last if last > 0 else value(first)

    return formula


def but_nan_at_first_zero(layers):
    first, last = length(layers[0]), length(layers[-1])
    return first / last if first > 0 and last > 0 else math.nan


def two_layers(ratio, random):
    """the first gradient's length over the last one's"""
    two, three, four = torch.tensor([3.0, -4.0]), torch.tensor([2.0, -3.0, 6.0]), torch.tensor([1.0, 5.0, 5.0, -7.0])
    k = torch.randint(2, 9, (), generator=random)
    ratio.compare([([k * two, three],), ([four, k * two],), ([k * three, four],)])
    if isinstance(answer := ratio.answer([two, three]), torch.Tensor):
        raise Wrong("it returns a tensor: one float is asked for, and `.item()` makes one of it", repr(answer))


def many_layers(ratio, random):
    """several layers, gradients of several shapes"""
    ratio.compare([(gradients(random, 0.5, 3.0, 2.0),), (gradients(random, 4.0, 0.3, 2.0, 0.7),)])
    ratio.compare([(gradients(random, 2.0),), ([torch.tensor(-3.0), torch.tensor([[[2.0]]])],)])
    ratio.compare([(gradients(random, 1e-6, 1.0),), (gradients(random, 1e-9, 3.0, 1.0),)])


def vanished(ratio, random):
    """a gradient of 0 at the first layer: 0"""
    first, *rest = gradients(random, 1.0, 2.0, 3.0)
    ratio.compare([([torch.zeros_like(first), *rest],)])


def nothing_entered(ratio, random):
    """a gradient of 0 at the last layer: NaN, whatever the first is"""
    first, *rest = gradients(random, 1.0, 2.0, 3.0)
    rest[-1] = torch.zeros_like(rest[-1])
    ratio.compare([([torch.zeros_like(first), *rest],), ([first, *rest],)])


def tiny(ratio, random):
    """gradients of 1e-30: their squares do not fit into float32"""
    ratio.compare(
        [(gradients(random, 3e-30, 2e-30, 1e-30),), (gradients(random, 1.0, 1e-10, 1e-30),)],
        {
            "the squares of 1e-30 are 0 in float32: change to float64, `.double()`, before you square": in_float32,
            "the squares of 1e-30 are 0 in float32, and so is the answer: change to float64, `.double()`": (
                in_float32_or_zero
            ),
        }
        | {
            f"the {eps:.0e} that it adds drowns gradients of 1e-30: add nothing": drowned(eps)
            for eps in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)
        },
    )


def drowned(eps):
    return lambda layers: length(layers[0]) / (length(layers[-1]) + eps)


GRADIENT_RATIO = Exercise(
    name="gradient_ratio",
    lesson="07",
    title="how much of the gradient arrives at the first layer",
    oracle=lambda layers: ratio_of(lambda g: g[0], lambda g: g[-1], layers),
    tolerance=0.0,
    checks={"ratio": (two_layers, many_layers), "small": (vanished, nothing_entered, tiny)},
    mistakes={
        "it gives NaN where the *first* length is 0, too: nothing arrived, so the answer is 0": but_nan_at_first_zero,
        "it is upside down: the first layer's length over the last one's": lambda g: ratio_of(
            lambda g: g[-1], lambda g: g[0], g
        ),
        "the root is missing: it compares sums of squares": ratio_by(lambda t: t.pow(2).sum()),
        "it compares mean squares: a length is the root of their sum": ratio_by(lambda t: t.pow(2).mean()),
        "it takes the *mean* of the squares: a length is the root of their sum": ratio_by(
            lambda t: t.pow(2).mean().sqrt()
        ),
        "it adds up absolute values: a length is the root of the sum of squares": ratio_by(lambda t: t.abs().sum()),
        "it takes the mean of the absolute values: a length is the root of the sum of squares": ratio_by(
            lambda t: t.abs().mean()
        ),
        "it takes the largest number: a length is the root of the sum of all squares": ratio_by(
            lambda t: t.abs().max()
        ),
        "it adds the numbers up, signs and all: square them first": lambda g: (
            float(g[0].sum() / g[-1].sum()) if length(g[-1]) > 0 else math.nan
        ),
        "it takes the mean of the rows' lengths: one length for the whole tensor": ratio_by(
            lambda t: t.norm(dim=-1).mean()
        ),
        "it looks at the first row of a gradient alone": ratio_by(lambda t: t[0].norm()),
        "it takes a matrix's largest singular value: a length is the root of the sum of all squares": ratio_by(
            lambda t: torch.linalg.norm(t, 2) if t.ndim == 2 else t.norm()
        ),
        "it compares the first layer with the second: with the last": lambda g: ratio_of(
            lambda g: g[0], lambda g: g[1], g
        ),
        "it compares the second layer with the last: the first layer is gradients[0]": lambda g: ratio_of(
            lambda g: g[1], lambda g: g[-1], g
        ),
        "it gives 0 where the last length is 0: nothing entered, so nothing can be said: NaN": at_zero(lambda f: 0.0),
        "it gives 1 where the last length is 0: nothing entered, so nothing can be said: NaN": at_zero(lambda f: 1.0),
        "it gives infinity where the last length is 0: nothing entered, so nothing can be said: NaN": at_zero(
            lambda f: math.inf
        ),
        "a length over 0 is infinity in PyTorch: where the last length is 0, give back NaN": at_zero(
            lambda f: math.inf if f > 0 else math.nan
        ),
        "it gives back the first length where the last is 0: NaN": at_zero(lambda f: f),
    },
    hints=(
        "Only two tensors matter: `gradients[0]` and `gradients[-1]`. A length is the root of the sum of the squares "
        "of all numbers of a tensor, whatever its shape.",
        "`g.double().pow(2).sum().sqrt().item()` is the length of g, squared in float64, as a Python float. Look at "
        "the last length before you divide by it.",
        "With `first` and `last` the two lengths: `return first / last if last > 0 else float('nan')`.",
    ),
)

EXERCISES = (LAYER_NORM, RMS_NORM, RESIDUAL_BLOCK, GRADIENT_RATIO)
