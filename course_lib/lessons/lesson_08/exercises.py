"""Lesson 08: the feed-forward network, its size, and the router of a mixture of experts."""

import math

import torch
import torch.nn.functional as F

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import draw


def normal(random, *shape, scale=1.0):
    return scale * torch.randn(shape, generator=random)


# ---- gelu -----------------------------------------------------------------------------------------


def share_below(x):
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def a_few(gelu, random):
    """numbers below, at and above 0"""
    gelu.compare([torch.tensor([x]) for x in (1.0, -1.0, 0.0, 2.0, -2.0)] + [normal(random, 6)])


def far_out(gelu, random):
    """far from 0: large numbers pass, very negative ones become 0"""
    gelu.compare([torch.tensor([10.0, -10.0]), 20 * normal(random, 8), torch.tensor([100.0, -100.0, 3.0, -3.0])])
    gelu.compare([torch.tensor([1e4, -1e4]), torch.tensor([4.0, -4.0, 4.5, -3.5, 6.0])])


def any_shape(gelu, random):
    """tensors of any shape, number by number"""
    gelu.compare([normal(random, *shape, scale=2.0) for shape in ((), (2, 3), (2, 3, 4), (1, 5))])


GELU = Exercise(
    name="gelu",
    lesson="08",
    title="the bend in GPT-2's neurons",
    oracle=F.gelu,
    checks={"curve": (a_few, far_out), "shapes": (any_shape,)},
    mistakes={
        "it gives Φ(x), the share of draws below x: multiply it by x": share_below,
        "it gives x · (1 + erf(x/√2)), twice what it should: Φ is half of the bracket": lambda x: (
            2 * x * share_below(x)
        ),
        "it gives x · erf(x/√2): Φ(x) is (1 + erf(x/√2)) / 2": lambda x: x * torch.erf(x / math.sqrt(2)),
        "it gives half of x · erf(x/√2): the 1 in (1 + erf) is missing": lambda x: x * torch.erf(x / math.sqrt(2)) / 2,
        "it takes erf(x): erf(x / √2) is asked for": lambda x: x * 0.5 * (1 + torch.erf(x)),
        "it takes erf(x/2): divide by √2, not by 2": lambda x: x * 0.5 * (1 + torch.erf(x / 2)),
        "it takes erf(x · √2): divide by √2": lambda x: x * 0.5 * (1 + torch.erf(x * math.sqrt(2))),
        "it is ReLU, with a corner at 0: GELU bends smoothly, gelu(-1) is -0.159": torch.relu,
        "it is SiLU, x · sigmoid(x): GELU multiplies x by Φ(x)": F.silu,
        "it is GPT-2's approximation by tanh: close, and up to 0.0005 away; here Φ itself is asked for, by erf": (
            lambda x: F.gelu(x, approximate="tanh")
        ),
        "it is the approximation x · sigmoid(1.702 x): close, and up to 0.02 away; Φ itself is asked for, by erf": (
            lambda x: x * torch.sigmoid(1.702 * x)
        ),
        "it multiplies x by the bell curve's height: Φ is the area under the curve left of x": (
            lambda x: x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        ),
        "it multiplies x by 1 − Φ(x), the share of draws above x: those *below* x count": lambda x: x * share_below(-x),
        "it gives the numbers back as they came": lambda x: x.clone(),
        "it is (x + erf) / 2: the bracket is multiplied by x": lambda x: 0.5 * (x + torch.erf(x / math.sqrt(2))),
    },
    hints=(
        "Each number is multiplied by Φ(x), a share from 0 to 1. Write Φ first.",
        "Φ(x) = (1 + erf(x / √2)) / 2, and `torch.erf` works on whole tensors. √2 is `2**0.5`.",
        "`share_below = 0.5 * (1 + torch.erf(x / 2**0.5))`, and then `return x * share_below`.",
    ),
)


# ---- swiglu ---------------------------------------------------------------------------------------


def swiglu(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def network(random, *shape, d_model, d_ff):
    """x and three weights, of a size that lets every slip show."""
    gate, up = normal(random, 2, d_ff, d_model)
    return normal(random, *shape, d_model), gate, up, normal(random, d_model, d_ff)


NOT_TURNED = "it multiplies x by a weight that is not transposed: x @ weight.T, since a weight is (out, in)"
FROM_THE_LEFT = (
    "it multiplies the weight by x from the left: that works for one vector alone; x @ weight.T works for any"
)
SWIGLU_SLIPS = {
    NOT_TURNED: lambda x, g, u, d: (F.silu(x @ g) * (x @ u)) @ d,
    "it does not transpose the down weight: (…) @ down_weight.T": lambda x, g, u, d: (F.silu(x @ g.T) * (x @ u.T)) @ d,
    FROM_THE_LEFT: lambda x, g, u, d: d @ (F.silu(g @ x) * (u @ x)),
}


def one_vector(swiglu, random):
    """one token's vector"""
    sizes = ((2, 3), (3, 5), (4, 2))
    swiglu.compare([network(random, d_model=d, d_ff=f) for d, f in sizes], crashes=SWIGLU_SLIPS)


def large_numbers(swiglu, random):
    """numbers so large that e to their power is infinite"""
    inputs = [network(random, *shape, d_model=3, d_ff=4) for shape in ((), (2, 3))]
    swiglu.compare((100 * x, *others) for x, *others in inputs)


def batches(swiglu, random):
    """several tokens, and several texts of several tokens: each token by itself"""
    shapes = ((2,), (4,), (2, 3), (3, 2))
    swiglu.compare([network(random, *shape, d_model=3, d_ff=5) for shape in shapes], crashes=SWIGLU_SLIPS)


def square(swiglu, random):
    """a network that is not wider inside than outside"""
    swiglu.compare([network(random, 2, d_model=3, d_ff=3) for _ in range(2)], crashes=SWIGLU_SLIPS)


SWIGLU = Exercise(
    name="swiglu",
    lesson="08",
    title="the feed-forward network of Llama and SmolLM2",
    oracle=swiglu,
    checks={"vector": (one_vector, square), "batch": (batches, large_numbers)},
    mistakes=SWIGLU_SLIPS
    | {
        "it bends up instead of gate: silu belongs to the gate": lambda x, g, u, d: swiglu(x, u, g, d),
        "nothing is bent: silu is missing": lambda x, g, u, d: (x @ g.T * (x @ u.T)) @ d.T,
        "the gate is sigmoid(…): silu(z) is z · sigmoid(z)": lambda x, g, u, d: (
            (torch.sigmoid(x @ g.T) * (x @ u.T)) @ d.T
        ),
        "it bends by ReLU: silu(z) is z · sigmoid(z)": lambda x, g, u, d: (torch.relu(x @ g.T) * (x @ u.T)) @ d.T,
        "it bends by GELU: silu(z) is z · sigmoid(z)": lambda x, g, u, d: (F.gelu(x @ g.T) * (x @ u.T)) @ d.T,
        "it bends by the tanh form of GELU: silu(z) is z · sigmoid(z)": lambda x, g, u, d: (
            (F.gelu(x @ g.T, approximate="tanh") * (x @ u.T)) @ d.T
        ),
        "e to the power of a large number is infinite, and ∞ / ∞ is NaN: sigmoid(z) is 1 / (1 + e^−z)": (
            lambda x, g, u, d: (x @ g.T * (x @ g.T).exp() / (1 + (x @ g.T).exp()) * (x @ u.T)) @ d.T
        ),
        "it adds gate and up: multiply them": lambda x, g, u, d: (F.silu(x @ g.T) + x @ u.T) @ d.T,
        "it bends the product: silu belongs to the gate alone": lambda x, g, u, d: F.silu((x @ g.T) * (x @ u.T)) @ d.T,
        "it bends both gate and up: silu belongs to the gate alone": lambda x, g, u, d: (
            (F.silu(x @ g.T) * F.silu(x @ u.T)) @ d.T
        ),
        "it leaves up out: that is a network with two weights": lambda x, g, u, d: F.silu(x @ g.T) @ d.T,
        "it leaves the gate out: that is a network with two weights": lambda x, g, u, d: F.silu(x @ u.T) @ d.T,
        "it stops before the way down: d_ff numbers come out, and d_model are asked for": lambda x, g, u, d: (
            F.silu(x @ g.T) * (x @ u.T)
        ),
        "it adds x to the result: that is the residual connection, the block's business": lambda x, g, u, d: (
            x + swiglu(x, g, u, d)
        ),
        "it takes a softmax over the gate: silu is wanted, number by number": lambda x, g, u, d: (
            ((x @ g.T).softmax(-1) * (x @ u.T)) @ d.T
        ),
        "it swaps the gate and the up weight, and bends neither as it should": lambda x, g, u, d: (
            ((x @ g.T) * torch.sigmoid(x @ u.T)) @ d.T
        ),
    },
    hints=(
        "Three products: gate and up make d_ff numbers out of x, down makes d_model out of those. A weight is "
        "(out, in), as in `nn.Linear`: x @ weight.T.",
        "silu(z) = z · sigmoid(z). It bends the gate's numbers, and those multiply up's numbers, one by one.",
        "`gate = x @ gate_weight.T`, `up = x @ up_weight.T`, and then "
        "`return (gate * torch.sigmoid(gate) * up) @ down_weight.T`.",
    ),
)


# ---- feed_forward_parameters ----------------------------------------------------------------------


def count(d_model, d_ff, gated, bias, n_experts=1):
    weights = (3 if gated else 2) * d_model * d_ff
    biases = ((2 if gated else 1) * d_ff + d_model) * bias
    router = d_model * n_experts * (n_experts > 1)
    return n_experts * (weights + biases) + router


def sizes(random):
    """d_model and d_ff, far enough apart that no two formulas meet."""
    d_model = 8 * draw(random, 2, 12) + draw(random, 1, 3)
    return d_model, d_model * draw(random, 2, 5) + draw(random, 1, 7)


def published(parameters, random):
    """the layers of GPT-2 and of SmolLM2, and small ones"""
    parameters.compare(
        [(2, 8, False, False), (2, 5, True, False), (768, 3072, False, True), (576, 1536, True, False)]
        + [(*sizes(random), gated, False) for gated in (False, True)]
    )


def biases(parameters, random):
    """each product with a bias has one number more for each number that it puts out"""
    parameters.compare(
        [(2, 8, False, True), (2, 5, True, True)] + [(*sizes(random), gated, True) for gated in (False, True)]
    )


def mixtures(parameters, random):
    """several experts and their router"""
    parameters.compare(
        [(2, 5, False, False, 3), (2, 5, True, False, 3), (2, 5, False, False, 2), (3, 7, True, True, 2)]
        + [(2, 5, False, False, 1), (2, 5, True, True, 1)]
        + [(*sizes(random), gated, bias, draw(random, 2, 9)) for gated in (False, True) for bias in (False, True)]
    )


FEED_FORWARD_PARAMETERS = Exercise(
    name="feed_forward_parameters",
    lesson="08",
    title="how many numbers a feed-forward network learns",
    oracle=count,
    checks={"weights": (published,), "biases": (biases,), "experts": (mixtures,)},
    mistakes={
        "it counts two matrices for a gated network, too: there are three, gate, up and down": (
            lambda d, f, g, b, n=1: count(d, f, False, b, n)
        ),
        "it counts three matrices for a network without a gate, too: there are two, up and down": (
            lambda d, f, g, b, n=1: count(d, f, True, b, n)
        ),
        "it counts one matrix too few": lambda d, f, g, b, n=1: count(d, f, g, b, n) - n * d * f,
        "it counts biases where there are none": lambda d, f, g, b, n=1: count(d, f, g, True, n),
        "it leaves the biases out": lambda d, f, g, b, n=1: count(d, f, g, False, n),
        "the bias on the way down is missing: that product, too, has one, of d_model numbers": (
            lambda d, f, g, b, n=1: count(d, f, g, b, n) - n * d * b
        ),
        "the biases on the way up are missing: d_ff numbers each": (
            lambda d, f, g, b, n=1: count(d, f, g, False, n) + n * d * b
        ),
        "the gate's own bias is missing: d_ff numbers": lambda d, f, g, b, n=1: count(d, f, g, b, n) - n * f * b * g,
        "it takes one bias for each number that goes in: there is one for each that comes out": (
            lambda d, f, g, b, n=1: count(d, f, g, False, n) + n * b * ((2 if g else 1) * d + f)
        ),
        "it gives every product a bias of d_ff numbers: the one on the way down puts out d_model": (
            lambda d, f, g, b, n=1: count(d, f, g, False, n) + n * b * (3 if g else 2) * f
        ),
        "it counts one expert and the router: all n_experts have numbers of their own": (
            lambda d, f, g, b, n=1: count(d, f, g, b) + n * d * (n > 1)
        ),
        "its router has d_ff scores: it has one for each expert, d_model · n_experts numbers": (
            lambda d, f, g, b, n=1: n * count(d, f, g, b) + d * f * (n > 1)
        ),
        "it counts one expert, whatever n_experts is": lambda d, f, g, b, n=1: count(d, f, g, b),
        "the router is missing: one score for each expert, d_model · n_experts numbers": (
            lambda d, f, g, b, n=1: n * count(d, f, g, b)
        ),
        "it counts a router from three experts on: two need one, too": lambda d, f, g, b, n=1: (
            count(d, f, g, b, n) - d * n * (n == 2)
        ),
        "it counts a router for a lone expert: with one there is nothing to choose": (
            lambda d, f, g, b, n=1: n * count(d, f, g, b) + n * d
        ),
        "it gives every expert a router of its own: there is one for all": (
            lambda d, f, g, b, n=1: n * (count(d, f, g, b) + n * d * (n > 1))
        ),
        "its router has a score for d_model only once: it has d_model numbers for *each* expert": (
            lambda d, f, g, b, n=1: n * count(d, f, g, b) + d * (n > 1)
        ),
        "its router has a bias: here the router has none": lambda d, f, g, b, n=1: (
            count(d, f, g, b, n) + n * (n > 1) * b
        ),
        "its router has a bias in every mixture: here the router has none": (
            lambda d, f, g, b, n=1: count(d, f, g, b, n) + n * (n > 1)
        ),
        "it takes d_model + d_ff for the size of a matrix: its size is the product": (
            lambda d, f, g, b, n=1: (3 if g else 2) * (d + f)
        ),
        "it takes d_ff for 4 · d_model: use the d_ff that is given": lambda d, f, g, b, n=1: count(d, 4 * d, g, b, n),
        "it shares the biases among the experts: each expert has its own": (
            lambda d, f, g, b, n=1: count(d, f, g, False, n) + count(d, f, g, b) - count(d, f, g, False)
        ),
    },
    hints=(
        "One matrix has d_model · d_ff numbers, whichever way it goes. How many matrices are there, without a gate and "
        "with one?",
        "A bias has one number for each number that its product puts out: d_ff on the way up (and for the gate), "
        "d_model on the way down. Several experts are several such networks, plus one router of d_model · n_experts.",
        "`one = (3 if gated else 2) * d_model * d_ff`, plus `(2 if gated else 1) * d_ff + d_model` if bias; "
        "`return n_experts * one + (d_model * n_experts if n_experts > 1 else 0)`.",
    ),
)


# ---- route_top_k ----------------------------------------------------------------------------------


def route(scores, k):
    best, experts = scores.sort(dim=-1, descending=True, stable=True)
    return best[..., :k].softmax(-1), experts[..., :k]


def apart(random, *shape):
    """Scores no two of which are equal in a row, so that what is chosen is beyond dispute."""
    order = torch.rand(*shape, generator=random).argsort(-1).float()
    return 0.7 * (order - order.mean()) + 0.3 * torch.rand(*shape, generator=random)


ROUTE_SLIPS = {
    "it chooses along the first dimension, tokens for an expert: each token chooses its experts": lambda s, k: (
        s.topk(k, 0).values.softmax(0),
        s.topk(k, 0).indices,
    )
}
TIES = "of equal scores it does not choose the lowest number first: sort(descending=True, stable=True) does"


def a_row(route, random):
    """one token: the k best experts, the best first, and weights that sum to 1"""
    rows = [(torch.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)] + [(apart(random, 1, 5), k) for k in (2, 3)]
    route.compare(rows, crashes=ROUTE_SLIPS)


def tokens(route, random):
    """several tokens: each row by itself"""
    route.compare([(apart(random, *shape), k) for shape, k in (((3, 4), 2), ((4, 4), 3), ((2, 6), 2))])


def texts(route, random):
    """several texts: the experts stand in the last dimension"""
    route.compare([(apart(random, *shape), k) for shape, k in (((2, 3, 5), 2), ((3, 2, 4), 3), ((1, 1, 3), 2))])


def far_and_near(route, random):
    """scores in the thousands, and scores that hardly differ"""
    near = 2 + torch.tensor([[3.0, 1.0, 4.0, 2.0, 0.0]]) / 4096
    rows = [1000.0 * apart(random, 2, 4), 1000 + apart(random, 2, 4), -1000 + apart(random, 2, 4)]
    route.compare([(scores, k) for k in (2, 1) for scores in (near, *rows)])


def one_and_all(route, random):
    """k = 1, and k = the number of experts"""
    route.compare([(apart(random, 3, 4), k) for k in (1, 4)] + [(apart(random, 2, 1), 1)])


def ties(learner, random):
    """of equal scores, the lowest number comes first"""
    rows = [(torch.zeros(1, 4), 2), (torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0]]), 2), (torch.zeros(2, 64), 3)]
    rows += [(torch.randint(3, (3, n), generator=random).float(), 4) for n in (8, 40)]
    for scores, k in rows:
        answer = learner.answer(scores, k)
        if type(answer) is tuple and len(answer) == 2 and all(map(torch.is_tensor, answer)):
            weights, experts = answer
            right, wanted = route(scores, k)
            fits = experts.shape == wanted.shape and not experts.is_floating_point() and weights.shape == right.shape
            if fits and torch.allclose(weights, right) and not torch.equal(experts, wanted):
                as_good = torch.equal(scores.gather(-1, experts), scores.gather(-1, wanted))
                if as_good:
                    shown = (
                        f"scores {scores[0].tolist()}, k = {k}"
                        if scores.shape[-1] < 9
                        else f"{scores.shape[-1]} equal scores"
                    )
                    raise Wrong(TIES, f"{shown}: it chose {experts[0].tolist()}, right is {wanted[0].tolist()}")
    learner.compare(rows)


def in_order_of_number(scores, k):
    weights, experts = route(scores, k)
    experts, order = experts.sort(dim=-1)
    return weights.gather(-1, order), experts


def spread(scores, k):
    weights, experts = route(scores, k)
    return torch.zeros_like(scores).scatter(-1, experts, weights), experts


ROUTE_TOP_K = Exercise(
    name="route_top_k",
    lesson="08",
    title="which experts a token goes to, and how much each counts",
    list_will_do=True,
    oracle=route,
    checks={"choice": (a_row, tokens, texts), "edges": (one_and_all, far_and_near), "ties": (ties,)},
    mistakes=ROUTE_SLIPS
    | {
        "it gives (experts, weights): weights first": lambda s, k: route(s, k)[::-1],
        "it takes the softmax over all experts and then the best: the weights of the k chosen must sum to 1": (
            lambda s, k: (s.softmax(-1).gather(-1, route(s, k)[1]), route(s, k)[1])
        ),
        "it gives the chosen scores themselves: their softmax is asked for": (
            lambda s, k: (s.gather(-1, route(s, k)[1]), route(s, k)[1])
        ),
        "e to the power of large scores overflows, or all become 0: take the largest off first": lambda s, k: (
            (powers := s.gather(-1, route(s, k)[1]).exp()) / powers.sum(-1, keepdim=True),
            route(s, k)[1],
        ),
        "it divides the scores by their sum: scores can be negative; take a softmax": lambda s, k: (
            (chosen := s.gather(-1, route(s, k)[1])) / chosen.sum(-1, keepdim=True),
            route(s, k)[1],
        ),
        "it takes a sigmoid of each chosen score: the weights must sum to 1, by a softmax": (
            lambda s, k: (s.gather(-1, route(s, k)[1]).sigmoid(), route(s, k)[1])
        ),
        "all chosen experts count alike: the softmax of their scores says how much each counts": (
            lambda s, k: (torch.full_like(route(s, k)[0], 1 / k), route(s, k)[1])
        ),
        "it chooses the lowest scores: the highest are wanted": lambda s, k: (
            s.gather(-1, (-s).sort(dim=-1, descending=True, stable=True)[1][..., :k]).softmax(-1),
            (-s).sort(dim=-1, descending=True, stable=True)[1][..., :k],
        ),
        "the best comes last: it comes first": lambda s, k: tuple(part.flip(-1) for part in route(s, k)),
        "its weights run the other way round than its experts": lambda s, k: (route(s, k)[0].flip(-1), route(s, k)[1]),
        "it gives the experts in order of their numbers: the best comes first": in_order_of_number,
        "it gives a weight for every expert, 0 for those not chosen: k weights are asked for": spread,
        "its softmax runs over the tokens: each token's weights must sum to 1": lambda s, k: (
            s.gather(-1, route(s, k)[1]).softmax(0),
            route(s, k)[1],
        ),
        "its softmax runs over dimension 1, which with several texts is the position: the experts stand in the last": (
            lambda s, k: (s.gather(-1, route(s, k)[1]).softmax(1), route(s, k)[1])
        ),
        "`[:, :k]` cuts the second dimension, which with several texts is the position: `[..., :k]` cuts the last": (
            lambda s, k: (
                s.sort(dim=-1, descending=True, stable=True)[0][:, :k].softmax(-1),
                s.sort(dim=-1, descending=True, stable=True)[1][:, :k],
            )
        ),
        "it numbers the experts from 1: the first is 0": lambda s, k: (route(s, k)[0], route(s, k)[1] + 1),
        "it always sends to the first k experts": lambda s, k: (
            s[..., :k].softmax(-1),
            torch.arange(k).expand(*s.shape[:-1], k),
        ),
        "it chooses one expert too many": lambda s, k: route(s, k + 1),
    },
    hints=(
        "First choose: the k highest scores of each row and where they stand. Then the softmax, over those k alone.",
        "`scores.sort(dim=-1, descending=True, stable=True)` gives the sorted scores and the numbers of the experts; "
        "stable means that equal ones keep their order, so the lowest number comes first.",
        "`best, experts = scores.sort(dim=-1, descending=True, stable=True)`, keep `[..., :k]` of both, and return "
        "`best[..., :k].softmax(-1), experts[..., :k]`.",
    ),
)


EXERCISES = (GELU, SWIGLU, FEED_FORWARD_PARAMETERS, ROUTE_TOP_K)
