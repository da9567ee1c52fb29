import torch
from lessons.proof import Proof

INF = float("inf")

# ---- temperature ----------------------------------------------------------------------------------

temperature = Proof("temperature")


@temperature.right
def divides(logits, t):
    return logits / t


@temperature.right
def times_the_inverse(logits, t):
    return torch.mul(logits, t**-1)


@temperature.right
def one_by_one(logits, t):
    return torch.tensor([score / t for score in logits.flatten().tolist()]).reshape(logits.shape)


@temperature.wrong("it multiplies by t")
def multiplies(logits, t):
    return t * logits


@temperature.wrong("it gives probabilities")
def softmax_at_once(logits, t):
    return torch.softmax(logits / t, dim=-1)


@temperature.wrong("it divides the probabilities")
def divides_after_softmax(logits, t):
    return torch.softmax(logits, dim=-1) / t


@temperature.wrong("it raises the probabilities to a power")
def powers_of_probabilities(logits, t):
    return torch.softmax(logits, dim=-1).pow(1 / t)


@temperature.wrong("it raises the scores to a power")
def powers_of_scores(logits, t):
    return logits.pow(1 / t)


@temperature.wrong("it divides by t twice")
def twice(logits, t):
    return logits / t / t


@temperature.wrong("the root of t")
def root(logits, t):
    return logits / torch.tensor(t).sqrt()


@temperature.wrong("it takes t away")
def subtracts(logits, t):
    return logits - t


@temperature.wrong("it adds t")
def adds(logits, t):
    return logits + t


@temperature.wrong("they have lost the logarithm of a sum")
def log_softmax_too(logits, t):
    return torch.log(torch.softmax(logits / t, dim=-1))


@temperature.wrong("it divides the logarithms of the probabilities")
def of_log_probabilities(logits, t):
    return torch.log_softmax(logits, dim=-1) / t


@temperature.wrong("the largest was taken off")
def as_softmax_does(logits, t):
    return (logits - logits.max(dim=-1, keepdim=True).values) / t


@temperature.wrong("it drops the digits")
def whole_numbers(logits, t):
    return torch.floor(logits / t)


@temperature.wrong("it leaves negative scores as they are")
def positive_ones(logits, t):
    return torch.where(logits < 0, logits, logits / t)


# ---- top_k ----------------------------------------------------------------------------------------

top_k = Proof("top_k")


def least(logits, k):
    return torch.sort(logits, dim=-1, descending=True).values[..., k - 1, None]


@top_k.right
def by_topk(logits, k):
    smallest = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


@top_k.right
def by_counting_the_larger_ones(logits, k):
    larger = (logits[..., None, :] > logits[..., :, None]).sum(-1)
    return torch.where(larger < k, logits, torch.tensor(-INF))


@top_k.right
def row_by_row(logits, k):
    rows = []
    for row in logits.reshape(-1, logits.shape[-1]).tolist():
        bound = sorted(row)[-min(k, len(row))]
        rows.append([score if score >= bound else -INF for score in row])
    return torch.tensor(rows).reshape(logits.shape)


@top_k.wrong("it keeps one too few")
def strictly_above(logits, k):
    return logits.masked_fill(logits <= least(logits, min(k, logits.shape[-1])), -torch.inf)


@top_k.wrong("it keeps one too many")
def counts_from_0(logits, k):
    smallest = torch.sort(logits, dim=-1, descending=True).values[..., min(k, logits.shape[-1] - 1), None]
    return logits.masked_fill(logits < smallest, -torch.inf)


@top_k.wrong("it keeps the k smallest")
def ascending(logits, k):
    bound = torch.sort(logits, dim=-1).values[..., min(k, logits.shape[-1]) - 1, None]
    return logits.masked_fill(logits > bound, -torch.inf)


@top_k.wrong("it drops the k largest")
def masks_the_largest(logits, k):
    return logits.masked_fill(logits >= least(logits, min(k, logits.shape[-1])), -torch.inf)


@top_k.wrong("what is dropped becomes 0")
def zeros(logits, k):
    return torch.where(logits < least(logits, min(k, logits.shape[-1])), 0.0, logits)


@top_k.wrong("a very negative number")
def a_billion(logits, k):
    return logits.masked_fill(logits < least(logits, min(k, logits.shape[-1])), -1e9)


@top_k.wrong("it gives the k largest scores alone")
def values(logits, k):
    return logits.topk(min(k, logits.shape[-1]), dim=-1).values


@top_k.wrong("it gives ids")
def indices(logits, k):
    return logits.topk(min(k, logits.shape[-1]), dim=-1).indices


@top_k.wrong("it gives probabilities")
def renormalised(logits, k):
    return by_topk(logits, k).softmax(-1)


@top_k.wrong("it gives True and False")
def mask(logits, k):
    return logits >= least(logits, min(k, logits.shape[-1]))


@top_k.wrong("the scores are in another order")
def stays_sorted(logits, k):
    ordered = torch.sort(logits, dim=-1, descending=True).values
    ordered[..., k:] = -torch.inf
    return ordered


@top_k.wrong("the first k tokens of the vocabulary")
def forgets_to_sort(logits, k):
    result = torch.full_like(logits, -torch.inf)
    result[..., :k] = logits[..., :k]
    return result


@top_k.wrong("the whole batch")
def of_all(logits, k):
    return logits.masked_fill(logits < logits.flatten().topk(min(k, logits.numel())).values[-1], -torch.inf)


@top_k.wrong("measures all rows by the first one")
def first_row(logits, k):
    bound = logits.reshape(-1, logits.shape[-1])[0].topk(min(k, logits.shape[-1])).values[-1]
    return logits.masked_fill(logits < bound, -torch.inf)


@top_k.wrong("along the first dimension")
def dim_0(logits, k):
    bound = logits.topk(min(k, logits.shape[0]), dim=0).values[-1]
    return logits.masked_fill(logits < bound, -torch.inf)


@top_k.wrong("it stops where k is larger than the vocabulary")
def no_min(logits, k):
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)


@top_k.wrong("it keeps some and drops others")
def exactly_k(logits, k):
    kept = logits.topk(min(k, logits.shape[-1]), dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)


@top_k.wrong("it drops them all")
def above_the_next(logits, k):
    if k >= logits.shape[-1]:
        return logits.clone()
    following = torch.sort(logits, dim=-1, descending=True).values[..., k, None]
    return logits.masked_fill(logits <= following, -torch.inf)


@top_k.wrong("a k-th largest of its own, and")
def one_row_as_in_the_lesson(logits, k):
    least = logits.topk(min(k, logits.shape[-1])).values[-1]
    return logits.masked_fill(logits < least, -torch.inf)


# ---- top_p ----------------------------------------------------------------------------------------

top_p = Proof("top_p")


@top_p.right
def by_sort_and_scatter(logits, p):
    ordered, order = torch.sort(logits, dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    drop = probabilities.cumsum(-1) - probabilities >= p
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -torch.inf)


@top_p.right
def shifted_by_one(logits, p):
    order = logits.argsort(dim=-1, descending=True)
    reached = logits.softmax(-1).gather(-1, order).cumsum(-1) >= p
    drop = torch.roll(reached, 1, -1)
    drop[..., 0] = False
    return torch.where(drop.gather(-1, order.argsort(dim=-1)), -torch.inf, logits)


@top_p.right
def from_the_tail(logits, p):
    ordered, order = logits.sort(dim=-1)
    drop = ordered.softmax(-1).cumsum(-1) <= 1 - p
    drop[..., -1] = False
    return logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)


@top_p.right
def a_loop(logits, p):
    result = torch.full_like(logits, -torch.inf).reshape(-1, logits.shape[-1])
    for row, scores in enumerate(logits.reshape(-1, logits.shape[-1])):
        probabilities, held = scores.softmax(0), 0.0
        for id in scores.argsort(descending=True):
            result[row, id] = scores[id]
            held += probabilities[id].item()
            if held >= p:
                break
    return result.reshape(logits.shape)


def by_order(logits, p, decide, probabilities=None, descending=True):
    """Sorts, lets `decide(probabilities in order, p)` say what stays, and puts that back."""
    probabilities = logits.softmax(-1) if probabilities is None else probabilities
    order = probabilities.argsort(dim=-1, descending=descending)
    stays = decide(probabilities.gather(-1, order), p)
    return logits.masked_fill(~torch.zeros_like(stays).scatter(-1, order, stays), -torch.inf)


def right_decision(ordered, p):
    return ordered.cumsum(-1) - ordered < p


@top_p.wrong("it drops the token that crosses p")
def without_the_crossing_one(logits, p):
    return by_order(logits, p, lambda ordered, p: ordered.cumsum(-1) < p)


@top_p.wrong("it keeps one token too many")
def one_more(logits, p):
    def decide(ordered, p):
        stays = right_decision(ordered, p)
        return torch.cat((torch.ones_like(stays[..., :1]), stays[..., :-1]), -1)

    return by_order(logits, p, decide)


@top_p.wrong("hold exactly p")
def until_more_than_p(logits, p):
    return by_order(logits, p, lambda ordered, p: ordered.cumsum(-1) - ordered <= p)


@top_p.wrong("it begins with the least likely")
def smallest_first(logits, p):
    return by_order(logits, p, right_decision, descending=False)


@top_p.wrong("it wants p from each token by itself")
def each_alone(logits, p):
    return logits.masked_fill(logits.softmax(-1) < p, -torch.inf)


@top_p.wrong("own probability with 1 − p")
def above_the_rest(logits, p):
    return logits.masked_fill(logits.softmax(-1) < 1 - p, -torch.inf)


@top_p.wrong("which is min-p")
def other_method(logits, p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -torch.inf)


@top_p.wrong("are in the order of size")
def never_put_back(logits, p):
    ordered = logits.softmax(-1).sort(-1, descending=True).values
    return logits.masked_fill(~right_decision(ordered, p), -torch.inf)


@top_p.wrong("the wrong way round")
def gathers(logits, p):
    ordered, order = logits.sort(-1, descending=True)
    return logits.masked_fill(~right_decision(ordered.softmax(-1), p).gather(-1, order), -torch.inf)


@top_p.wrong("the scores are in another order")
def gives_them_sorted(logits, p):
    ordered = logits.sort(-1, descending=True).values
    return ordered.masked_fill(~right_decision(ordered.softmax(-1), p), -torch.inf)


@top_p.wrong("in the order of the vocabulary: begin")
def no_sort(logits, p):
    return logits.masked_fill(~right_decision(logits.softmax(-1), p), -torch.inf)


@top_p.wrong("it adds up scores")
def no_softmax(logits, p):
    return by_order(logits, p, right_decision, probabilities=logits)


@top_p.wrong("what is dropped becomes 0")
def fills_with_0(logits, p):
    result = by_sort_and_scatter(logits, p)
    return result.masked_fill(result == -torch.inf, 0.0)


@top_p.wrong("a very negative number")
def fills_with_a_number(logits, p):
    result = by_sort_and_scatter(logits, p)
    return result.clamp(min=torch.finfo(result.dtype).min)


@top_p.wrong("it gives probabilities")
def softmax_after(logits, p):
    return by_sort_and_scatter(logits, p).softmax(-1)


@top_p.wrong("it gives True and False")
def which_stay(logits, p):
    return by_sort_and_scatter(logits, p).isfinite()


@top_p.wrong("keeps the tail")
def inverted(logits, p):
    return logits.masked_fill(by_sort_and_scatter(logits, p).isfinite(), -torch.inf)


@top_p.wrong("softmax runs over the whole batch")
def one_softmax_for_all(logits, p):
    powers = logits.exp()
    return by_order(logits, p, right_decision, probabilities=powers / powers.sum())


@top_p.wrong("for one long row")
def flattened(logits, p):
    return by_sort_and_scatter(logits.flatten(), p).reshape(logits.shape)


@top_p.wrong("softmax runs over the first dimension")
def softmax_dim_0(logits, p):
    return by_order(logits, p, right_decision, probabilities=logits.softmax(0))


@top_p.wrong("as many tokens as the first one")
def number_of_the_first(logits, p):
    first = by_sort_and_scatter(logits, p).reshape(-1, logits.shape[-1])[0]
    number = int(first.isfinite().sum())
    return by_order(logits, p, lambda ordered, p: (torch.arange(ordered.shape[-1]) < number).expand(ordered.shape))


@top_p.wrong("along the first dimension from beginning to end")
def down_the_columns(logits, p):
    ordered, order = logits.sort(dim=0, descending=True)
    probabilities = ordered.softmax(0)
    drop = probabilities.cumsum(0) - probabilities >= p
    return logits.masked_fill(torch.zeros_like(drop).scatter(0, order, drop), -torch.inf)


@top_p.wrong("dropped in all rows")
def what_any_row_drops(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    return logits.index_fill(-1, order[before >= p], -torch.inf)


@top_p.wrong("not tokens to be dropped")
def index_fill_as_in_the_lesson(logits, p):
    probabilities, order = logits.softmax(0).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    return logits.index_fill(0, order[before >= p], -torch.inf)


# ---- min_p ----------------------------------------------------------------------------------------

min_p = Proof("min_p")


@min_p.right
def by_probabilities(logits, p):
    probabilities = torch.softmax(logits, dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.max(dim=-1, keepdim=True).values, -torch.inf)


@min_p.right
def by_differences(logits, p):
    behind = logits - logits.amax(-1, keepdim=True)
    return torch.where(behind.exp() >= p, logits, -torch.inf)


@min_p.right
def by_logarithms(logits, p):
    bound = logits.max(-1, keepdim=True).values + torch.tensor(p).log()
    return logits.masked_fill(logits < bound, float("-inf"))


def at_least(logits, bound):
    return logits.masked_fill(logits.softmax(-1) < bound, -torch.inf)


@min_p.wrong("it compares with p itself")
def p_itself(logits, p):
    return at_least(logits, p)


@min_p.wrong("p times the largest score: compare")
def of_scores(logits, p):
    return logits.masked_fill(logits < p * logits.amax(-1, keepdim=True), -torch.inf)


@min_p.wrong("the largest score less p")
def less_p(logits, p):
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) - p, -torch.inf)


@min_p.wrong("the average probability")
def average(logits, p):
    return at_least(logits, p / logits.shape[-1])


@min_p.wrong("which is top-p")
def the_other_one(logits, p):
    return by_sort_and_scatter(logits, p)


@min_p.wrong("1 − p times the largest")
def one_less(logits, p):
    return at_least(logits, (1 - p) * logits.softmax(-1).amax(-1, keepdim=True))


@min_p.wrong("which all of them reach")
def of_the_smallest(logits, p):
    return at_least(logits, p * logits.softmax(-1).amin(-1, keepdim=True))


@min_p.wrong("it is upside down")
def drops_the_likely(logits, p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities >= p * probabilities.amax(-1, keepdim=True), -torch.inf)


@min_p.wrong("every token but the likeliest")
def the_best_alone(logits, p):
    return at_least(logits, logits.softmax(-1).amax(-1, keepdim=True))


@min_p.wrong("what is dropped becomes 0")
def becomes_0(logits, p):
    return logits * by_probabilities(logits, p).isfinite()


@min_p.wrong("a very negative number")
def becomes_a_number(logits, p):
    return torch.where(by_probabilities(logits, p).isfinite(), logits, -10_000.0)


@min_p.wrong("it gives probabilities")
def as_probabilities(logits, p):
    return torch.softmax(by_probabilities(logits, p), -1)


@min_p.wrong("it gives True and False")
def as_truth(logits, p):
    return by_probabilities(logits, p) > -torch.inf


@min_p.wrong("it drops everything")
def wrong_sign(logits, p):
    bound = logits.amax(-1, keepdim=True) - torch.tensor(p).log()
    return logits.masked_fill(logits < bound + 1e-3, -torch.inf)


@min_p.wrong("the largest probability of the batch")
def largest_of_all(logits, p):
    return at_least(logits, p * logits.softmax(-1).max())


@min_p.wrong("and the largest is that of the batch")
def all_in_one(logits, p):
    powers = logits.exp() / logits.exp().sum()
    return logits.masked_fill(powers < p * powers.max(), -torch.inf)


@min_p.wrong("softmax runs over the first dimension")
def first_dimension(logits, p):
    probabilities = logits.softmax(0) if logits.ndim > 1 else logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -torch.inf)


@min_p.wrong("like one row, with softmax(0)")
def as_in_the_lesson(logits, p):
    probabilities = logits.softmax(0)
    return logits.masked_fill(probabilities < p * probabilities.max(), -torch.inf)


@min_p.wrong("both run over the first dimension")
def columns(logits, p):
    behind = logits - logits.amax(0, keepdim=True)
    return logits.masked_fill(behind.exp() < p, -torch.inf) if logits.ndim > 1 else by_differences(logits, p)


@min_p.wrong("the largest is looked for along the first dimension")
def largest_of_a_column(logits, p):
    return at_least(logits, p * logits.softmax(-1).max(0).values)


@min_p.wrong("at least p times is enough")
def more_than(logits, p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities <= p * probabilities.amax(-1, keepdim=True), -torch.inf)


@min_p.wrong("it keeps one: nothing tells them apart")
def one_likeliest(logits, p):
    probabilities = logits.softmax(-1)
    keep = probabilities > p * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(~keep.scatter(-1, logits.argmax(-1, keepdim=True), True), -torch.inf)


@min_p.wrong("keepdim=True keeps")
def a_dimension_lost(logits, p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1), -torch.inf)


# ---- repetition_penalty ---------------------------------------------------------------------------

penalty_ = Proof("repetition_penalty")


@penalty_.right
def gather_and_scatter(logits, ids, penalty):
    seen = logits.gather(-1, ids)
    return logits.scatter(-1, ids, torch.where(seen < 0, seen * penalty, seen / penalty))


@penalty_.right
def by_a_mask(logits, ids, penalty):
    seen = (ids[..., None] == torch.arange(logits.shape[-1])).any(-2)
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


@penalty_.right
def by_sets(logits, ids, penalty):
    result = logits.clone().reshape(-1, logits.shape[-1])
    for row, text in enumerate(ids.reshape(-1, ids.shape[-1]).tolist()):
        for id in set(text):
            result[row, id] *= penalty if result[row, id] < 0 else 1 / penalty
    return result.reshape(logits.shape)


def changed(logits, ids, change):
    seen = logits.gather(-1, ids)
    return logits.scatter(-1, ids, change(seen))


@penalty_.wrong("it divides negative scores, too")
def divides_all(logits, ids, penalty):
    return changed(logits, ids, lambda seen: seen / penalty)


@penalty_.wrong("it multiplies positive scores, too")
def multiplies_all(logits, ids, penalty):
    return changed(logits, ids, lambda seen: seen * penalty)


@penalty_.wrong("that makes all of them likelier")
def the_other_way(logits, ids, penalty):
    return changed(logits, ids, lambda seen: torch.where(seen < 0, seen / penalty, seen * penalty))


@penalty_.wrong("it takes the penalty off the scores")
def presence(logits, ids, penalty):
    return changed(logits, ids, lambda seen: seen - penalty)


@penalty_.wrong("it leaves negative scores as they are")
def only_positive(logits, ids, penalty):
    return changed(logits, ids, lambda seen: torch.where(seen < 0, seen, seen / penalty))


@penalty_.wrong("it leaves positive scores as they are")
def only_negative(logits, ids, penalty):
    return changed(logits, ids, lambda seen: torch.where(seen < 0, seen * penalty, seen))


@penalty_.wrong("it penalises every token")
def everything(logits, ids, penalty):
    return torch.where(logits > 0, logits / penalty, logits * penalty)


@penalty_.wrong("that have *not* come")
def the_new_ones(logits, ids, penalty):
    seen = (ids[..., None] == torch.arange(logits.shape[-1])).any(-2)
    return torch.where(seen, logits, everything(logits, ids, penalty))


@penalty_.wrong("the last id alone")
def newest(logits, ids, penalty):
    return gather_and_scatter(logits, ids[..., -1:], penalty)


@penalty_.wrong("it leaves the last id out")
def all_but_newest(logits, ids, penalty):
    return gather_and_scatter(logits, ids[..., :-1], penalty) if ids.shape[-1] > 1 else logits.clone()


@penalty_.wrong("it rules the tokens out")
def forbids(logits, ids, penalty):
    return logits.scatter(-1, ids, -torch.inf)


@penalty_.wrong("it gives probabilities")
def probabilities(logits, ids, penalty):
    return gather_and_scatter(logits, ids, penalty).softmax(-1)


@penalty_.wrong("the scores of the ids alone")
def not_put_back(logits, ids, penalty):
    seen = logits.gather(-1, ids)
    return torch.where(seen > 0, seen / penalty, seen * penalty)


@penalty_.wrong("once for each time that it has come")
def each_time(logits, ids, penalty):
    result = logits.clone().reshape(-1, logits.shape[-1])
    for row, text in enumerate(ids.reshape(-1, ids.shape[-1]).tolist()):
        for id in text:
            result[row, id] *= penalty if result[row, id] < 0 else 1 / penalty
    return result.reshape(logits.shape)


@penalty_.wrong("by the ids of all rows")
def union(logits, ids, penalty):
    result = logits.clone()
    seen = ids.unique()
    result[..., seen] = everything(logits[..., seen], ids, penalty)
    return result


@penalty_.wrong("by the ids of the first")
def first_text(logits, ids, penalty):
    result = logits.clone()
    seen = ids.reshape(-1, ids.shape[-1])[0].unique()
    result[..., seen] = everything(logits[..., seen], ids, penalty)
    return result


@penalty_.wrong("picks along dimension 0")
def index_copy_as_in_the_lesson(logits, ids, penalty):
    seen = logits[ids]
    return logits.index_copy(0, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


@top_k.wrong("equal ones above the k-th count once")
def of_different_scores(logits, k):
    rows = logits.reshape(-1, logits.shape[-1])
    kept = []
    for row in rows:
        different = row.unique().flip(0)
        kept.append(row.masked_fill(row < different[min(k, len(different)) - 1], -torch.inf))
    return torch.stack(kept).view(logits.shape)


@top_k.wrong("nearly equal is not equal")
def what_is_close_stays(logits, k):
    least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill((logits < least) & ~torch.isclose(logits, least), -torch.inf)
