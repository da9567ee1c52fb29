import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- layer_norm -----------------------------------------------------------------------------------

layer_norm = Proof("layer_norm")


@layer_norm.right
def by_pytorch(x, weight, bias, eps):
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


@layer_norm.right
def by_moments(x, weight, bias, eps):
    mean = x.mean(-1)
    variance = ((x - mean[..., None]) ** 2).mean(-1)
    return (x - mean[..., None]) * torch.rsqrt(variance[..., None] + eps) * weight + bias


@layer_norm.right
def by_rows(x, weight, bias, eps):
    rows = x.reshape(-1, x.shape[-1])
    done = [(row - row.mean()) / (row.var(unbiased=False) + eps) ** 0.5 * weight + bias for row in rows]
    return torch.stack(done).reshape(x.shape)


@layer_norm.wrong("divides by d − 1")
def torchs_variance(x, weight, bias, eps):
    return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias


@layer_norm.wrong("the mean is not subtracted")
def only_divides(x, weight, bias, eps):
    return x / torch.sqrt(x.var(-1, correction=0, keepdim=True) + eps) * weight + bias


@layer_norm.wrong("that is RMSNorm")
def rms_instead(x, weight, bias, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps) ** 0.5 * weight + bias


@layer_norm.wrong("root of the mean square of x")
def squares_with_the_mean(x, weight, bias, eps):
    return (x - x.mean(-1, True)) / torch.sqrt(x.square().mean(-1, True) + eps) * weight + bias


@layer_norm.wrong("does not divide")
def only_centred(x, weight, bias, eps):
    return (x - x.mean(-1, True)) * weight + bias


@layer_norm.wrong("by its root")
def without_the_root(x, weight, bias, eps):
    return (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + eps) * weight + bias


@layer_norm.wrong("added after the root")
def eps_outside(x, weight, bias, eps):
    return (x - x.mean(-1, True)) / (x.std(-1, correction=0, keepdim=True) + eps) * weight + bias


@layer_norm.wrong("does not use eps")
def no_eps(x, weight, bias, eps):
    return (x - x.mean(-1, True)) / x.std(-1, correction=0, keepdim=True) * weight + bias


@layer_norm.wrong("always 0.00001")
def own_eps(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias)


@layer_norm.wrong("the larger of variance and eps")
def at_least_eps(x, weight, bias, eps):
    return (x - x.mean(-1, True)) / x.var(-1, correction=0, keepdim=True).clamp(min=eps).sqrt() * weight + bias


@layer_norm.wrong("the bias is missing")
def no_bias(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, None, eps)


@layer_norm.wrong("the weight is missing")
def no_weight(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], None, bias, eps)


@layer_norm.wrong("weight and bias are missing")
def neither(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], None, None, eps)


@layer_norm.wrong("the bias is weighted")
def bias_inside(x, weight, bias, eps):
    return (F.layer_norm(x, x.shape[-1:], None, None, eps) + bias) * weight


@layer_norm.wrong("changed places")
def swapped(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], bias, weight, eps)


@layer_norm.wrong("weight comes before")
def weight_first(x, weight, bias, eps):
    return F.layer_norm(x * weight, x.shape[-1:], None, bias, eps)


@layer_norm.wrong("over everything")
def one_mean_for_all(x, weight, bias, eps):
    return F.layer_norm(x, x.shape, None, None, eps) * weight + bias


@layer_norm.wrong("columns")
def over_columns(x, weight, bias, eps):
    return (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + eps) * weight + bias


@layer_norm.wrong("keepdim=True is missing in mean and variance")
def no_keepdim(x, weight, bias, eps):
    return (x - x.mean(-1)) / torch.sqrt(x.var(-1, correction=0) + eps) * weight + bias


@layer_norm.wrong("keepdim=True is missing in both means")
def no_keepdim_step_by_step(x, weight, bias, eps):
    centred = x - x.mean(dim=-1)
    return centred / (centred.pow(2).mean(dim=-1) + eps).sqrt() * weight + bias


@layer_norm.wrong("keepdim=True is missing in the variance")
def no_keepdim_in_the_variance(x, weight, bias, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.pow(2).mean(dim=-1) + eps).sqrt() * weight + bias


@layer_norm.wrong("it changes what it was given")
def in_place(x, weight, bias, eps):
    x -= x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


# ---- rms_norm -------------------------------------------------------------------------------------

rms_norm = Proof("rms_norm")


@rms_norm.right
def pytorchs_own(x, weight, eps):
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


@rms_norm.right
def by_length(x, weight, eps):
    d = x.shape[-1]
    return weight * x / torch.sqrt(x.norm(dim=-1, keepdim=True) ** 2 / d + eps)


@rms_norm.right
def by_einsum(x, weight, eps):
    mean_square = torch.einsum("...d,...d->...", x, x) / x.size(-1)
    return x * torch.rsqrt(mean_square + eps).unsqueeze(-1) * weight


@rms_norm.wrong("it subtracts the mean")
def centred_first(x, weight, eps):
    return F.layer_norm(x, x.shape[-1:], weight, None, eps)


@rms_norm.wrong("the mean left in")
def by_deviation(x, weight, eps):
    return x / torch.sqrt(x.var(-1, correction=0, keepdim=True) + eps) * weight


@rms_norm.wrong("as torch.std gives it")
def by_torchs_deviation(x, weight, eps):
    return x / torch.sqrt(x.var(-1, keepdim=True) + eps) * weight


@rms_norm.wrong("the root of the *sum* of squares")
def by_the_sum(x, weight, eps):
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + eps) * weight


@rms_norm.wrong("absolute values")
def by_absolute_values(x, weight, eps):
    return x / (x.abs().mean(-1, keepdim=True) + eps) * weight


@rms_norm.wrong("by its root")
def root_forgotten(x, weight, eps):
    return x / ((x * x).mean(-1, keepdim=True) + eps) * weight


@rms_norm.wrong("it squares the mean")
def mean_squared(x, weight, eps):
    return x / (x.mean(-1, keepdim=True) ** 2 + eps).sqrt() * weight


@rms_norm.wrong("it multiplies by the root")
def sqrt_for_rsqrt(x, weight, eps):
    return x * torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


@rms_norm.wrong("added after the root")
def eps_after_the_root(x, weight, eps):
    return x / ((x * x).mean(-1, keepdim=True).sqrt() + eps) * weight


@rms_norm.wrong("does not use eps")
def eps_forgotten(x, weight, eps):
    return x / (x * x).mean(-1, keepdim=True).sqrt() * weight


@rms_norm.wrong("always 0.00001")
def eps_of_its_own(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], weight, 1e-5)


@rms_norm.wrong("the larger of mean square and eps")
def not_below_eps(x, weight, eps):
    return x / (x * x).mean(-1, keepdim=True).clamp(min=eps).sqrt() * weight


@rms_norm.wrong("the weight is missing")
def unweighted(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], None, eps)


@rms_norm.wrong("1 + weight")
def gemmas(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], None, eps) * (1 + weight)


@rms_norm.wrong("adds the weight")
def weight_added(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], None, eps) + weight


@rms_norm.wrong("divides by the weight")
def weight_below(x, weight, eps):
    return x / (((x * x).mean(-1, keepdim=True) + eps).sqrt() * weight)


@rms_norm.wrong("weight comes before")
def weight_before(x, weight, eps):
    return F.rms_norm(weight * x, x.shape[-1:], None, eps)


@rms_norm.wrong("over everything")
def one_mean_square_for_all(x, weight, eps):
    return x / torch.sqrt((x * x).mean() + eps) * weight


@rms_norm.wrong("columns")
def columns(x, weight, eps):
    return x / torch.sqrt((x * x).mean(0) + eps) * weight


@rms_norm.wrong("keepdim=True is missing")
def keepdim_forgotten(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1) + eps) * weight


# ---- residual_block -------------------------------------------------------------------------------

residual_block = Proof("residual_block")


@residual_block.right
def in_one_line(x, norm, part):
    return torch.add(part(norm(x)), x)


@residual_block.right
def step_by_step(x, norm, part):
    stream = x.clone()
    copy = norm(stream)
    stream += part(copy)
    return stream


@residual_block.wrong("the residual connection is missing")
def no_residual(x, norm, part):
    return part(norm(x))


@residual_block.wrong("the norm is missing")
def no_norm(x, norm, part):
    return x + part(x)


@residual_block.wrong("the part alone")
def part_alone(x, norm, part):
    return part(x)


@residual_block.wrong("adds to the normalized copy")
def overwritten_by_the_norm(x, norm, part):
    x = norm(x)
    return x + part(x)


@residual_block.wrong("that is post-norm")
def post_norm(x, norm, part):
    return norm(x + part(x))


@residual_block.wrong("once more on the sum")
def sandwiched(x, norm, part):
    return norm(x + part(norm(x)))


@residual_block.wrong("behind the part: the part *reads*")
def norm_of_the_result(x, norm, part):
    return x + norm(part(x))


@residual_block.wrong("on the wrong way")
def norm_on_the_stream(x, norm, part):
    return norm(x) + part(x)


@residual_block.wrong("it reads the copy alone")
def part_of_the_sum(x, norm, part):
    return part(x + norm(x))


@residual_block.wrong("the part is not used")
def part_forgotten(x, norm, part):
    return x + norm(x)


@residual_block.wrong("gives x back")
def nothing_done(x, norm, part):
    part(norm(x))
    return x


@residual_block.wrong("it subtracts")
def subtracted(x, norm, part):
    return x - part(norm(x))


@residual_block.wrong("it multiplies")
def multiplied(x, norm, part):
    return x * part(norm(x))


@residual_block.wrong("the mean of the two")
def averaged(x, norm, part):
    return 0.5 * x + 0.5 * part(norm(x))


@residual_block.wrong("it changes what it was given")
def added_in_place(x, norm, part):
    x += part(norm(x))
    return x


# ---- gradient_ratio -------------------------------------------------------------------------------

gradient_ratio = Proof("gradient_ratio")


@gradient_ratio.right
def by_norm(gradients):
    first, last = gradients[0].double().norm(), gradients[-1].double().norm()
    return (first / last).item() if last else math.nan


@gradient_ratio.right
def scaled_in_float32(gradients):
    """Never squares a small number: divides by the largest first."""
    lengths = []
    for g in (gradients[0], gradients[-1]):
        largest = g.abs().max().item()
        lengths.append(largest * torch.linalg.vector_norm(g / largest).item() if largest else 0.0)
    return lengths[0] / lengths[1] if lengths[1] else float("nan")


@gradient_ratio.right
def by_loops(gradients):
    sums = [sum(number**2 for number in gradients[i].flatten().tolist()) for i in (0, -1)]
    return float("nan") if sums[1] == 0 else math.sqrt(sums[0] / sums[1])


@gradient_ratio.wrong("upside down")
def last_over_first(gradients):
    first, last = gradients[0].double().norm().item(), gradients[-1].double().norm().item()
    return last / first if first else math.nan


@gradient_ratio.wrong("the root is missing")
def of_squares(gradients):
    first, last = (gradients[i].double().square().sum().item() for i in (0, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("the *mean* of the squares")
def root_mean_squares(gradients):
    first, last = (gradients[i].double().square().mean().sqrt().item() for i in (0, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("adds up absolute values")
def absolute_values(gradients):
    first, last = (gradients[i].double().abs().sum().item() for i in (0, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("the mean of the absolute values")
def mean_absolute_values(gradients):
    first, last = (gradients[i].double().abs().mean().item() for i in (0, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("the largest number")
def largest(gradients):
    first, last = (gradients[i].double().abs().max().item() for i in (0, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("the mean of the rows' lengths")
def rows_apart(gradients):
    first, last = (gradients[i].double().norm(dim=-1).mean().item() for i in (0, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("with the second")
def neighbours(gradients):
    first, last = (gradients[i].double().norm().item() for i in (0, 1))
    return first / last if last else math.nan


@gradient_ratio.wrong("the first layer is gradients[0]")
def counts_from_one(gradients):
    first, last = (gradients[i].double().norm().item() for i in (1, -1))
    return first / last if last else math.nan


@gradient_ratio.wrong("gives 0 where the last")
def zero_for_nothing(gradients):
    first, last = (gradients[i].double().norm().item() for i in (0, -1))
    return first / last if last else 0.0


@gradient_ratio.wrong("NaN where the *first* length is 0")
def nan_for_any_zero(gradients):
    first, last = (gradients[i].double().norm().item() for i in (0, -1))
    return math.nan if first == 0 or last == 0 else first / last


@gradient_ratio.wrong("one float is asked for")
def a_tensor(gradients):
    first, last = (gradients[i].double().norm() for i in (0, -1))
    return first / last if last > 0 else torch.tensor(math.nan)


@gradient_ratio.wrong("gives infinity")
def infinity_for_nothing(gradients):
    first, last = (gradients[i].double().norm().item() for i in (0, -1))
    return first / last if last else math.inf


@gradient_ratio.wrong("infinity in PyTorch")
def pytorchs_division(gradients):
    return (gradients[0].double().norm() / gradients[-1].double().norm()).item()


@gradient_ratio.wrong("ZeroDivisionError")
def no_look_at_the_last(gradients):
    return gradients[0].double().norm().item() / gradients[-1].double().norm().item()


@gradient_ratio.wrong("before you square")
def float32_squares(gradients):
    first, last = (gradients[i].pow(2).sum().sqrt().item() for i in (0, -1))
    return first / last if last > 0 else math.nan


@gradient_ratio.wrong("add nothing")
def with_an_eps(gradients):
    first, last = (gradients[i].double().norm().item() for i in (0, -1))
    return first / (last + 1e-8) if last > 0 else math.nan


@layer_norm.wrong("less the squared mean")
def mean_square_less_squared_mean(x, weight, bias, eps):
    mean = x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True) - mean * mean
    return (x - mean) / (variance + eps).sqrt() * weight + bias


@residual_block.wrong("one position after the other")
def position_by_position(x, norm, part):
    rows = [x[:, i : i + 1] for i in range(x.shape[1])]
    return torch.cat([row + part(norm(row)) for row in rows], dim=1)


@residual_block.wrong("one text after the other")
def text_by_text(x, norm, part):
    return torch.cat([one[None] + part(norm(one[None])) for one in x])


@gradient_ratio.wrong("gives another value than it should")
def to_six_digits(gradients):
    first, last = (gradient.double().pow(2).sum().sqrt().item() for gradient in (gradients[0], gradients[-1]))
    return round(first / last, 6) if last > 0 else math.nan
