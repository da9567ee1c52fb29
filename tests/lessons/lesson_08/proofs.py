import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- gelu -----------------------------------------------------------------------------------------

gelu = Proof("gelu")


@gelu.right
def by_erf(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@gelu.right
def by_the_normal_distribution(x):
    return x * torch.special.ndtr(x)


@gelu.right
def by_erfc(x):
    return x * torch.erfc(-x * 2**-0.5) / 2


@gelu.wrong("Φ(x), the share of draws below x")
def phi_alone(x):
    return torch.special.ndtr(x)


@gelu.wrong("twice what it should")
def without_the_half(x):
    return x * (1 + torch.erf(x / 2**0.5))


@gelu.wrong("it gives x · erf(x/√2)")
def erf_for_phi(x):
    return x * torch.erf(x / 2**0.5)


@gelu.wrong("the 1 in (1 + erf) is missing")
def no_one(x):
    return 0.5 * x * torch.erf(x / 2**0.5)


@gelu.wrong("it takes erf(x):")
def no_root(x):
    return 0.5 * x * (1 + torch.erf(x))


@gelu.wrong("it takes erf(x/2)")
def two_for_its_root(x):
    return 0.5 * x * (1 + torch.erf(x / 2))


@gelu.wrong("it takes erf(x · √2)")
def times_the_root(x):
    return 0.5 * x * (1 + torch.erf(x * 2**0.5))


@gelu.wrong("ReLU, with a corner at 0")
def relu(x):
    return x.clamp(min=0)


@gelu.wrong("it is SiLU")
def silu(x):
    return x / (1 + torch.exp(-x))


@gelu.wrong("approximation by tanh")
def by_tanh(x):
    return 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))


@gelu.wrong("sigmoid(1.702 x)")
def by_sigmoid(x):
    return x * torch.sigmoid(1.702 * x)


@gelu.wrong("the bell curve's height")
def by_density(x):
    return x * torch.distributions.Normal(0, 1).log_prob(x).exp()


@gelu.wrong("the share of draws above x")
def the_other_side(x):
    return x * torch.special.ndtr(-x)


@gelu.wrong("(x + erf) / 2")
def bracket_added(x):
    return 0.5 * (x + torch.erf(x / 2**0.5))


@gelu.wrong("it changes what it was given")
def in_place(x):
    return x.mul_(torch.special.ndtr(x))


@gelu.wrong("it returns a list")
def one_by_one(x):
    return [0.5 * value * (1 + math.erf(value / 2**0.5)) for value in x.flatten().tolist()]


@gelu.wrong("the numbers back as they came")
def identity(x):
    return x


# ---- swiglu ---------------------------------------------------------------------------------------

swiglu = Proof("swiglu")


@swiglu.right
def by_matmul(x, gate_weight, up_weight, down_weight):
    gate = x @ gate_weight.T
    return (gate * torch.sigmoid(gate) * (x @ up_weight.T)) @ down_weight.T


@swiglu.right
def by_functional(x, gate_weight, up_weight, down_weight):
    return F.linear(F.silu(F.linear(x, gate_weight)) * F.linear(x, up_weight), down_weight)


@swiglu.right
def neuron_by_neuron(x, gate_weight, up_weight, down_weight):
    total = torch.zeros_like(x)
    for key, up, value in zip(gate_weight, up_weight, down_weight.T, strict=True):
        g = (x * key).sum(-1, keepdim=True)
        total = total + g / (1 + torch.exp(-g)) * (x * up).sum(-1, keepdim=True) * value
    return total


@swiglu.wrong("it bends up instead of gate")
def up_is_bent(x, g, u, d):
    return (x @ g.T * F.silu(x @ u.T)) @ d.T


@swiglu.wrong("silu is missing")
def nothing_bent(x, g, u, d):
    return ((x @ g.T) * (x @ u.T)) @ d.T


@swiglu.wrong("the gate is sigmoid")
def glu(x, g, u, d):
    return ((x @ g.T).sigmoid() * (x @ u.T)) @ d.T


@swiglu.wrong("it bends by ReLU")
def reglu(x, g, u, d):
    return ((x @ g.T).relu() * (x @ u.T)) @ d.T


@swiglu.wrong("it bends by GELU")
def geglu(x, g, u, d):
    return (F.gelu(x @ g.T) * (x @ u.T)) @ d.T


@swiglu.wrong("multiply them")
def added(x, g, u, d):
    return (F.silu(x @ g.T) + (x @ u.T)) @ d.T


@swiglu.wrong("it bends the product")
def product_bent(x, g, u, d):
    return F.silu((x @ g.T) * (x @ u.T)) @ d.T


@swiglu.wrong("it bends both")
def both_bent(x, g, u, d):
    return (F.silu(x @ g.T) * F.silu(x @ u.T)) @ d.T


@swiglu.wrong("it leaves up out")
def no_up(x, g, u, d):
    return F.silu(x @ g.T) @ d.T


@swiglu.wrong("it leaves the gate out")
def no_gate(x, g, u, d):
    return F.silu(x @ u.T) @ d.T


@swiglu.wrong("it stops before the way down")
def no_down(x, g, u, d):
    return F.silu(x @ g.T) * (x @ u.T)


@swiglu.wrong("the residual connection")
def with_residual(x, g, u, d):
    return x + by_matmul(x, g, u, d)


@swiglu.wrong("not transposed")
def not_turned(x, g, u, d):
    return (F.silu(x @ g) * (x @ u)) @ d


@swiglu.wrong("does not transpose the down weight")
def down_not_turned(x, g, u, d):
    return (F.silu(x @ g.T) * (x @ u.T)) @ d


@swiglu.wrong("for one vector alone")
def weights_first(x, g, u, d):
    return d @ (F.silu(g @ x) * (u @ x))


# ---- feed_forward_parameters ----------------------------------------------------------------------

size = Proof("feed_forward_parameters")


@size.right
def matrix_by_matrix(d_model, d_ff, gated, bias, n_experts=1):
    shapes = [(d_ff, d_model), (d_model, d_ff)] + ([(d_ff, d_model)] if gated else [])
    one = sum(out * into + (out if bias else 0) for out, into in shapes)
    return n_experts * one + (n_experts * d_model if n_experts > 1 else 0)


@size.right
def of_the_real_thing(d_model, d_ff, gated, bias, n_experts=1):
    layers = [torch.nn.Linear(d_model, d_ff, bias, device="meta") for _ in range(1 + gated)]
    layers.append(torch.nn.Linear(d_ff, d_model, bias, device="meta"))
    one = sum(p.numel() for layer in layers for p in layer.parameters())
    return one if n_experts == 1 else n_experts * (one + d_model)


@size.wrong("two matrices for a gated network")
def never_three(d, f, gated, bias, n=1):
    return n * (2 * d * f + bias * (f + d)) + (n > 1) * n * d


@size.wrong("three matrices for a network without a gate")
def always_three(d, f, gated, bias, n=1):
    return n * (3 * d * f + bias * (2 * f + d)) + (n > 1) * n * d


@size.wrong("it leaves the biases out")
def no_biases(d, f, gated, bias, n=1):
    return n * (2 + gated) * d * f + (n > 1) * n * d


@size.wrong("it counts biases where there are none")
def always_biases(d, f, gated, bias, n=1):
    return n * ((2 + gated) * d * f + (1 + gated) * f + d) + (n > 1) * n * d


@size.wrong("the bias on the way down is missing")
def no_bias_down(d, f, gated, bias, n=1):
    return n * ((2 + gated) * d * f + bias * (1 + gated) * f) + (n > 1) * n * d


@size.wrong("the biases on the way up are missing")
def no_bias_up(d, f, gated, bias, n=1):
    return n * ((2 + gated) * d * f + bias * d) + (n > 1) * n * d


@size.wrong("the gate's own bias is missing")
def gate_without_bias(d, f, gated, bias, n=1):
    return n * ((2 + gated) * d * f + bias * (f + d)) + (n > 1) * n * d


@size.wrong("one for each that comes out")
def bias_of_what_goes_in(d, f, gated, bias, n=1):
    return n * ((2 + gated) * d * f + bias * ((1 + gated) * d + f)) + (n > 1) * n * d


@size.wrong("every product a bias of d_ff numbers")
def bias_of_d_ff(d, f, gated, bias, n=1):
    return n * (2 + gated) * (d * f + bias * f) + (n > 1) * n * d


@size.wrong("it counts one expert and the router")
def one_expert_and_the_router(d, f, gated, bias, n=1):
    return matrix_by_matrix(d, f, gated, bias) + (n > 1) * n * d


@size.wrong("its router has d_ff scores")
def router_into_the_network(d, f, gated, bias, n=1):
    return n * matrix_by_matrix(d, f, gated, bias) + (n > 1) * d * f


@size.wrong("it counts one expert, whatever")
def one_expert(d, f, gated, bias, n=1):
    return matrix_by_matrix(d, f, gated, bias)


@size.wrong("the router is missing")
def no_router(d, f, gated, bias, n=1):
    return n * matrix_by_matrix(d, f, gated, bias)


@size.wrong("a router for a lone expert")
def always_a_router(d, f, gated, bias, n=1):
    return n * (matrix_by_matrix(d, f, gated, bias) + d)


@size.wrong("a router of its own")
def a_router_each(d, f, gated, bias, n=1):
    return n * (matrix_by_matrix(d, f, gated, bias) + (n * d if n > 1 else 0))


@size.wrong("here the router has none")
def router_with_bias(d, f, gated, bias, n=1):
    return n * matrix_by_matrix(d, f, gated, bias) + (n * (d + bias) if n > 1 else 0)


@size.wrong("its size is the product")
def sums(d, f, gated, bias, n=1):
    return (2 + gated) * (d + f)


@size.wrong("use the d_ff that is given")
def four_times(d, f, gated, bias, n=1):
    return matrix_by_matrix(d, 4 * d, gated, bias, n)


@size.wrong("each expert has its own")
def shared_biases(d, f, gated, bias, n=1):
    return n * (2 + gated) * d * f + bias * ((1 + gated) * f + d) + (n > 1) * n * d


# ---- route_top_k ----------------------------------------------------------------------------------

route = Proof("route_top_k")


@route.right
def sorted_stably(scores, k):
    best, experts = scores.sort(dim=-1, descending=True, stable=True)
    return best[..., :k].softmax(-1), experts[..., :k]


@route.right
def softmax_first_then_scaled_up(scores, k):
    experts = torch.argsort(scores, dim=-1, descending=True, stable=True)[..., :k]
    shares = scores.softmax(-1).gather(-1, experts)
    return shares / shares.sum(-1, keepdim=True), experts


@route.right
def one_after_the_other(scores, k):
    left, experts = scores.clone(), []
    for _ in range(k):
        best = (left == left.max(-1, keepdim=True).values).int().argmax(-1, keepdim=True)
        experts.append(best)
        left = left.scatter(-1, best, -torch.inf)
    experts = torch.cat(experts, -1)
    return scores.gather(-1, experts).softmax(-1), experts


@route.wrong("weights first")
def experts_first(scores, k):
    weights, experts = sorted_stably(scores, k)
    return experts, weights


@route.wrong("the softmax over all experts and then the best")
def not_scaled_up(scores, k):
    _, experts = sorted_stably(scores, k)
    return scores.softmax(-1).gather(-1, experts), experts


@route.wrong("the chosen scores themselves")
def no_softmax(scores, k):
    best, experts = scores.topk(k)
    return best, experts


@route.wrong("divides the scores by their sum")
def by_their_sum(scores, k):
    best, experts = scores.topk(k)
    return best / best.sum(-1, keepdim=True), experts


@route.wrong("a sigmoid of each")
def by_sigmoid_each(scores, k):
    best, experts = scores.topk(k)
    return best.sigmoid(), experts


@route.wrong("count alike")
def equal_weights(scores, k):
    _, experts = scores.topk(k)
    return torch.ones_like(experts) / k, experts


@route.wrong("the lowest scores")
def lowest(scores, k):
    worst, experts = scores.topk(k, largest=False)
    return worst.softmax(-1), experts


@route.wrong("the best comes last")
def ascending(scores, k):
    best, experts = scores.sort(-1)
    return best[..., -k:].softmax(-1), experts[..., -k:]


@route.wrong("in order of their numbers")
def by_number(scores, k):
    _, experts = scores.topk(k)
    experts = experts.sort(-1).values
    return scores.gather(-1, experts).softmax(-1), experts


@route.wrong("a weight for every expert")
def dense(scores, k):
    weights, experts = sorted_stably(scores, k)
    return torch.zeros_like(scores).scatter(-1, experts, weights), experts


@route.wrong("runs over the tokens")
def softmax_over_tokens(scores, k):
    best, experts = scores.topk(k)
    return best.softmax(0), experts


@route.wrong("its softmax runs over dimension 1")
def softmax_over_one(scores, k):
    best, experts = scores.topk(k)
    return best.softmax(1), experts


@route.wrong("tokens for an expert")
def tokens_for_an_expert(scores, k):
    best, experts = scores.topk(k, 0)
    return best.softmax(0), experts


@route.wrong("cuts the second dimension")
def cut_in_the_second(scores, k):
    best, experts = scores.sort(dim=-1, descending=True, stable=True)
    return best[:, :k].softmax(-1), experts[:, :k]


@route.wrong("the first is 0")
def from_one(scores, k):
    weights, experts = sorted_stably(scores, k)
    return weights, experts + 1


@route.wrong("the lowest number first")
def by_topk(scores, k):
    best, experts = scores.topk(k)
    return best.softmax(-1), experts


@route.wrong("it returns a tensor")
def weights_alone(scores, k):
    return scores.topk(k).values.softmax(-1)


@swiglu.wrong("∞ / ∞ is NaN")
def sigmoid_by_a_quotient(x, gate_weight, up_weight, down_weight):
    gate, up = x @ gate_weight.T, x @ up_weight.T
    return (gate * gate.exp() / (1 + gate.exp()) * up) @ down_weight.T


@route.wrong("overflows, or all become 0")
def shares_of_powers(scores, k):
    best, experts = scores.sort(dim=-1, descending=True, stable=True)
    powers = best[..., :k].exp()
    return powers / powers.sum(-1, keepdim=True), experts[..., :k]


@route.wrong("its [1] has numbers of type float32")
def experts_as_floats(scores, k):
    best, experts = scores.sort(dim=-1, descending=True, stable=True)
    return best[..., :k].softmax(-1), experts[..., :k].float()


@size.wrong("a router from three experts on")
def router_for_three(d_model, d_ff, gated, bias, n_experts=1):
    one = (3 if gated else 2) * d_model * d_ff + bias * ((2 if gated else 1) * d_ff + d_model)
    return n_experts * one + (d_model * n_experts if n_experts > 2 else 0)
