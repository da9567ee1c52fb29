import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- stable_softmax -------------------------------------------------------------------------------

softmax = Proof("stable_softmax")


def share(powers):
    return powers / powers.sum(-1, keepdim=True)


def best(logits):
    return logits.max(-1, keepdim=True).values


@softmax.right
def largest_off(logits):
    return share(torch.exp(logits - logits.amax(dim=-1, keepdim=True)))


@softmax.right
def by_its_logarithm(logits):
    return torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True))


@softmax.right
def row_by_row(logits):
    rows = logits.reshape(-1, logits.shape[-1])
    return torch.stack([share(torch.exp(row - row.max())) for row in rows]).reshape(logits.shape)


@softmax.wrong("over the first dimension")
def dim_0(logits):
    return torch.softmax(logits, 0)


@softmax.wrong("over the last dimension but one")
def dim_minus_2(logits):
    return torch.softmax(logits, -2 if logits.ndim > 1 else -1)


@softmax.wrong("over dimension 1")
def dim_1(logits):
    return torch.softmax(logits, 1 if logits.ndim > 1 else 0)


@softmax.wrong("all rows together sum to 1")
def whole_sum(logits):
    powers = torch.exp(logits - logits.max())
    return powers / powers.sum()


@softmax.wrong("divides the scores by their sum")
def no_powers(logits):
    return logits / logits.sum(-1, keepdim=True)


@softmax.wrong("it gives the logarithms")
def logarithms(logits):
    return logits - torch.logsumexp(logits, -1, keepdim=True)


@softmax.wrong("they do not sum to 1")
def not_divided(logits):
    return torch.exp(logits - best(logits))


@softmax.wrong("the scores as they are")
def powers_alone(logits):
    return logits.exp()


@softmax.wrong("powers of 2")
def base_2(logits):
    return share(2 ** (logits - best(logits)))


@softmax.wrong("the signs are turned")
def largest_minus_score(logits):
    return torch.softmax(best(logits) - logits, -1)


@softmax.wrong("the largest score everything")
def winner(logits):
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()


@softmax.wrong("e to the power of large scores overflows")
def nothing_off(logits):
    return share(torch.exp(logits))


@softmax.wrong("of the whole tensor")
def one_largest_for_all(logits):
    return share(torch.exp(logits - logits.max()))


@softmax.wrong("the smallest score")
def smallest_off(logits):
    return share(torch.exp(logits - logits.amin(-1, keepdim=True)))


@softmax.wrong("the mean score")
def mean_off(logits):
    return share(torch.exp(logits - logits.mean(-1, keepdim=True)))


@softmax.wrong("the sign left out")
def size_off(logits):
    return share(torch.exp(logits - logits.abs().max(-1, keepdim=True).values))


@softmax.wrong("a score of −∞ gets a share")
def infinity_to_0(logits):
    return torch.softmax(torch.nan_to_num(logits, neginf=0.0), -1)


@softmax.wrong("off at a limit")
def clamped(logits):
    return share(torch.exp(logits.clamp(max=80)))


@softmax.wrong("64 bits only move the border")
def in_64_bits(logits):
    powers = logits.double().exp()
    return (powers / powers.sum(-1, keepdim=True)).to(logits.dtype)


@softmax.wrong("NaN is made a 0")
def no_nan(logits):
    p = share(torch.exp(logits))
    return torch.where(p.isnan(), 0.0, p)


# ---- next_token_loss ------------------------------------------------------------------------------

loss = Proof("next_token_loss")


def mean_of(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def p_of(logits, ids):
    return torch.softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:].unsqueeze(-1))


@loss.right
def pytorchs(logits, ids):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:])


@loss.right
def by_logsumexp(logits, ids):
    chosen = torch.take_along_dim(logits[:, :-1], ids[:, 1:, None], -1).squeeze(-1)
    return (logits[:, :-1].logsumexp(-1) - chosen).mean()


@loss.right
def by_loops(logits, ids):
    total, n = 0.0, 0
    for row, text in zip(logits, ids, strict=True):
        for i in range(len(text) - 1):
            log_p = row[i] - row[i].max()
            log_p = log_p - log_p.exp().sum().log()
            total, n = total - log_p[text[i + 1]].item(), n + 1
    return torch.tensor(total / n)


@loss.wrong("and the last token is left out")
def own_token_but_the_last(logits, ids):
    return mean_of(logits[:, :-1], ids[:, :-1])


@loss.wrong("and the first token is left out")
def own_token_but_the_first(logits, ids):
    return mean_of(logits[:, 1:], ids[:, 1:])


@loss.wrong("against their own token: those")
def not_shifted(logits, ids):
    return mean_of(logits, ids)


@loss.wrong("it shifts the wrong way")
def backwards(logits, ids):
    return mean_of(logits[:, 1:], ids[:, :-1])


@loss.wrong("as if the text went round")
def rolled(logits, ids):
    return mean_of(logits, torch.roll(ids, -1, dims=1))


@loss.wrong("the sign is missing")
def no_minus(logits, ids):
    return p_of(logits, ids).log().mean()


@loss.wrong("divides by all positions")
def all_positions(logits, ids):
    return pytorchs(logits, ids) * (ids.shape[1] - 1) / ids.shape[1]


@loss.wrong("for each position")
def each_position(logits, ids):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")


@loss.wrong("for each text")
def each_text(logits, ids):
    return each_position(logits, ids).mean(-1)


@loss.wrong("it gives bits")
def base_2_loss(logits, ids):
    return -p_of(logits, ids).log2().mean()


@loss.wrong("it gives the perplexity")
def exponential(logits, ids):
    return torch.exp(pytorchs(logits, ids))


@loss.wrong("it gives 1 − p")
def missed(logits, ids):
    return 1 - p_of(logits, ids).mean()


@loss.wrong("the scores for logarithms")
def no_softmax(logits, ids):
    return -logits[:, :-1].gather(-1, ids[:, 1:, None]).mean()


@loss.wrong("softmax is taken twice")
def twice(logits, ids):
    return pytorchs(logits.softmax(-1), ids)


@loss.wrong("over the positions, dim=1")
def dim_1_of_three(logits, ids):
    about = logits[:, :-1]
    powers = torch.exp(about - about.amax(dim=1, keepdim=True))
    log_p = torch.log(powers / powers.sum(dim=1, keepdim=True))
    return -log_p.gather(-1, ids[:, 1:, None]).mean()


@loss.wrong("over all the positions, dim=1")
def dim_1_before_the_cut(logits, ids):
    return F.nll_loss(torch.log_softmax(logits, dim=1)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@loss.wrong("it gives a bare number")
def item(logits, ids):
    return pytorchs(logits, ids).item()


@loss.wrong("it adds the surprises up")
def total_loss(logits, ids):
    return each_position(logits, ids).sum()


@loss.wrong("the last position alone")
def last_only(logits, ids):
    return F.cross_entropy(logits[:, -2], ids[:, -1])


@loss.wrong("the logarithm of the mean probability")
def log_of_mean(logits, ids):
    return -torch.log(p_of(logits, ids).mean())


@loss.wrong("the first text alone")
def first_row(logits, ids):
    return F.cross_entropy(logits[0, :-1], ids[0, 1:])


@loss.wrong("over the positions alone")
def texts_added(logits, ids):
    return each_position(logits, ids).sum(0).mean()


@loss.wrong("e to the power of large scores overflows")
def nothing_off_first(logits, ids):
    powers = torch.exp(logits)
    p = powers / powers.sum(-1, keepdim=True)
    return -p[:, :-1].gather(-1, ids[:, 1:, None]).log().mean()


@loss.wrong("one largest score for several positions")
def largest_of_a_text(logits, ids):
    about = logits[:, :-1]
    about = about - about.amax(dim=(1, 2), keepdim=True)
    return -(about - about.exp().sum(-1, keepdim=True).log()).gather(-1, ids[:, 1:, None]).mean()


@loss.wrong("it cuts scores off at a limit")
def clamped_scores(logits, ids):
    return pytorchs(logits.clamp(-80, 80), ids)


@loss.wrong("too small for 32 bits")
def log_after_softmax(logits, ids):
    return -p_of(logits, ids).log().mean()


@loss.wrong("a small number is added")
def epsilon(logits, ids):
    return -(p_of(logits, ids) + 1e-9).log().mean()


# ---- perplexity_of --------------------------------------------------------------------------------

perplexity = Proof("perplexity_of")


def flat(texts):
    return [p for text in texts for p in text]


@perplexity.right
def by_logarithms(texts):
    total, n = 0.0, 0
    for text in texts:
        for p in text:
            if p == 0:
                return math.inf
            total -= math.log(p)
            n += 1
    return math.exp(total / n)


@perplexity.right
def by_powers_of_2(texts):
    every = torch.tensor(flat(texts), dtype=torch.float64)
    return 2 ** (-every.log2().mean().item())


@perplexity.right
def by_pytorch(texts):
    return torch.tensor(flat(texts), dtype=torch.float64).log().mean().neg().exp()


@perplexity.right
def roots_multiplied(texts):
    every = flat(texts)
    if min(every) == 0:
        return math.inf
    return math.prod(p ** (-1 / len(every)) for p in every)


def safe_log(p):
    return -math.inf if p == 0 else math.log(p)


def mean(values):
    return sum(values) / len(values)


@perplexity.wrong("it gives the mean surprise")
def no_exponential(texts):
    return -mean([safe_log(p) for p in flat(texts)])


@perplexity.wrong("it gives bits")
def bits(texts):
    return -mean([safe_log(p) / math.log(2) for p in flat(texts)])


@perplexity.wrong("the sign is missing")
def geometric_mean(texts):
    return math.exp(mean([safe_log(p) for p in flat(texts)]))


@perplexity.wrong("ln goes with e")
def ln_and_2(texts):
    return 2 ** -mean([safe_log(p) for p in flat(texts)])


@perplexity.wrong("log2 goes with 2")
def log2_and_e(texts):
    return math.exp(-mean([safe_log(p) / math.log(2) for p in flat(texts)]))


@perplexity.wrong("e to the power of the sum")
def of_the_sum(texts):
    total = -sum(safe_log(p) for p in flat(texts))
    return math.inf if total > 700 else math.exp(total)


@perplexity.wrong("the mean of 1 / p")
def mean_of_inverses(texts):
    return mean([math.inf if p == 0 else 1 / p for p in flat(texts)])


@perplexity.wrong("1 / the mean probability")
def inverse_of_mean(texts):
    return 1 / mean(flat(texts))


@perplexity.wrong("of the texts' perplexities")
def mean_of_perplexities(texts):
    return mean([by_logarithms([text]) for text in texts])


@perplexity.wrong("of the texts' mean surprises")
def mean_of_means(texts):
    return math.exp(-mean([mean([safe_log(p) for p in text]) for text in texts]))


@perplexity.wrong("by the number of texts")
def by_texts(texts):
    total = -sum(safe_log(p) for p in flat(texts)) / len(texts)
    return math.inf if total > 700 else math.exp(total)


@perplexity.wrong("the first text alone")
def first(texts):
    return by_logarithms([texts[0]])


@perplexity.wrong("the last text alone")
def last(texts):
    for text in texts:
        answer = by_logarithms([text])
    return answer


@perplexity.wrong("multiply to 0")
def root_of_product(texts):
    every = flat(texts)
    return math.inf if 0 in every else math.prod(every) ** (-1 / len(every))


@perplexity.wrong("it leaves out")
def skips_0(texts):
    every = [p for p in flat(texts) if p]
    return math.exp(-mean([math.log(p) for p in every]))


@perplexity.wrong("a small number is added")
def small_number(texts):
    return math.exp(-mean([math.log(p + 1e-9) for p in flat(texts)]))


@perplexity.wrong("ends in an error")
def forgets_0(texts):
    every = flat(texts)
    return math.exp(-sum(map(math.log, every)) / len(every))


@perplexity.wrong("one perplexity for each text")
def a_list(texts):
    return [by_logarithms([text]) for text in texts]


@softmax.wrong("begins its search at −999")
def largest_from_minus_999(logits):
    largest = torch.maximum(logits.max(-1, keepdim=True).values, torch.tensor(-999.0))
    powers = (logits - largest).exp()
    return powers / powers.sum(-1, keepdim=True)


@perplexity.wrong("takes a small probability for 0")
def nearly_0_is_0(texts):
    probabilities = [p for text in texts for p in text]
    if min(probabilities) < 1e-9:
        return math.inf
    return math.exp(-sum(map(math.log, probabilities)) / len(probabilities))
