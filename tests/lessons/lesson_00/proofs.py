import torch
from lessons.proof import Proof

greedy_choice = Proof("greedy_choice")


@greedy_choice.right
def first_place_of_the_maximum(logits):
    return (logits == logits.max()).nonzero()[0, 0]  # a tensor without dimensions is as good as an int


@greedy_choice.right
def a_loop(logits):
    best = 0
    for id in range(1, len(logits)):
        if logits[id] > logits[best]:
            best = id
    return best


@greedy_choice.right
def a_list(logits):
    scores = logits.tolist()
    return scores.index(max(scores))


@greedy_choice.wrong("it chooses the last: take the lowest id")
def last_of_ties(logits):
    best = 0
    for id, score in enumerate(logits):
        if score >= logits[best]:
            best = id
    return best


@greedy_choice.wrong("the largest score itself")
def the_score(logits):
    return logits.max()


@greedy_choice.wrong("the id of the smallest score")
def smallest(logits):
    return int(logits.argmin())


@greedy_choice.wrong("one too high")
def counted_from_one(logits):
    return 1 + int(logits.argmax())


@greedy_choice.wrong("never chooses the last token")
def stops_early(logits):
    best = 0
    for id in range(len(logits) - 1):
        if logits[id] > logits[best]:
            best = id
    return best


@greedy_choice.wrong("never chooses the first token")
def starts_late(logits):
    return 1 + int(logits[1:].argmax()) if len(logits) > 1 else 0


@greedy_choice.wrong("a search that starts from the score 0")
def search_from_zero(logits):
    best, largest = 0, 0.0
    for id, score in enumerate(logits.tolist()):
        if score > largest:
            best, largest = id, score
    return best


@greedy_choice.wrong("farthest from 0")
def by_size(logits):
    return int(logits.abs().argmax())


@greedy_choice.wrong("leaves out the −∞ ones")
def among_those_left(logits):
    return int(logits[logits > -torch.inf].argmax())


@greedy_choice.wrong("look alike to it")
def by_naive_softmax(logits):
    powers = torch.exp(logits)
    return int((powers / powers.sum()).argmax())


@greedy_choice.wrong("drops the digits after the point")
def whole_scores(logits):
    return max(range(len(logits)), key=lambda id: int(logits[id]) if logits[id] > -1e9 else -(10**9))


@greedy_choice.wrong("another answer each time")
def sampled(logits):
    return int(torch.multinomial(logits.softmax(-1), 1))


@greedy_choice.wrong("returns a tensor of shape (2,)")
def all_of_ties(logits):
    return (logits == logits.max()).nonzero().squeeze()


@greedy_choice.wrong("it changes what it was given")
def sorts_in_place(logits):
    best = int(logits.argmax())
    logits.copy_(logits.sort(descending=True).values)
    return best


@greedy_choice.wrong("tensor of shape (1,)")
def still_a_tensor(logits):
    return (logits == logits.max()).nonzero()[0]


@greedy_choice.wrong("it returns nothing")
def prints_instead(logits):
    print(int(logits.argmax()))
