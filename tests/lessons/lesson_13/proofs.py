import re

import torch
from lessons.proof import Proof

# ---- generate_loop --------------------------------------------------------------------------------

generate_loop = Proof("generate_loop")


@generate_loop.right
def run_first_then_choose(run, prompt, choose, max_new_tokens, stop_ids):
    new, cache, todo = [], None, list(prompt)
    for _ in range(max_new_tokens):
        scores, cache = run(todo, cache)
        chosen = choose(scores)
        if chosen in stop_ids:
            return new
        new.append(chosen)
        todo = [chosen]
    return new


@generate_loop.right
def with_a_while(run, prompt, choose, max_new_tokens, stop_ids):
    answer = []
    scores, cache = run(prompt, None)
    while True:
        if len(answer) >= max_new_tokens:
            return answer
        id = choose(scores)
        if id in stop_ids:
            return answer
        answer = [*answer, id]
        if len(answer) < max_new_tokens:
            scores, cache = run([id], cache)


@generate_loop.right
def text_and_where_the_prompt_ends(run, prompt, choose, max_new_tokens, stop_ids):
    text = prompt[:]
    scores, cache = run(text, None)
    for step in range(max_new_tokens):
        text += [choose(scores)]
        if text[-1] in stop_ids:
            text.pop()
            break
        if step + 1 < max_new_tokens:
            scores, cache = run(text[-1:], cache)
    return text[len(prompt) :]


def variant(run, prompt, choose, n, stop_ids, first=None, feed=lambda text, new: new[-1:], keep=True, take=None):
    new = []
    scores, cache = run(prompt if first is None else first, None)
    while len(new) < n:
        chosen = (take or choose)(scores)
        if chosen in stop_ids:
            break
        new.append(chosen)
        scores, grown = run(feed(prompt + new, new), cache)
        cache = grown if keep else cache
    return new


@generate_loop.wrong("the prompt is in the answer")
def prompt_too(run, prompt, choose, max_new_tokens, stop_ids):
    return prompt + variant(run, prompt, choose, max_new_tokens, stop_ids)


@generate_loop.wrong("one token too many")
def at_most(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens + 1, stop_ids)


@generate_loop.wrong("one token too few")
def counts_the_first_run(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens - 1, stop_ids)


@generate_loop.wrong("counts the prompt")
def whole_length(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens - len(prompt), stop_ids)


@generate_loop.wrong("even where none is asked for")
def do_while(run, prompt, choose, max_new_tokens, stop_ids):
    new, cache, todo = [], None, prompt
    while True:
        scores, cache = run(todo, cache)
        chosen = choose(scores)
        if chosen in stop_ids:
            break
        new.append(chosen)
        todo = [chosen]
        if len(new) >= max_new_tokens:
            break
    return new


@generate_loop.wrong("who chooses is `choose`")
def greedy(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, stop_ids, take=lambda scores: int(torch.argmax(scores)))


@generate_loop.wrong("hand on the cache")
def no_cache_later(run, prompt, choose, max_new_tokens, stop_ids):
    new, scores = [], run(prompt, None)[0]
    while len(new) < max_new_tokens and (chosen := choose(scores)) not in stop_ids:
        new.append(chosen)
        scores, _ = run([chosen], None)
    return new


@generate_loop.wrong("hands on the first cache")
def stale(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, stop_ids, keep=False)


@generate_loop.wrong("the model reads them twice")
def whole_text_and_cache(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, stop_ids, feed=lambda text, new: text)


@generate_loop.wrong("the cache holds all but the last")
def all_new_ids(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, stop_ids, feed=lambda text, new: new)


@generate_loop.wrong("the prompt's last token alone")
def last_token_first(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, stop_ids, first=[prompt[-1]])


@generate_loop.wrong("send [chosen]")
def a_bare_id(run, prompt, choose, max_new_tokens, stop_ids):
    new = []
    scores, cache = run(prompt, None)
    while len(new) < max_new_tokens:
        chosen = choose(scores)
        if chosen in stop_ids:
            break
        new.append(chosen)
        scores, cache = run(chosen, cache)
    return new


@generate_loop.wrong("the stop id is in the answer")
def append_then_look(run, prompt, choose, max_new_tokens, stop_ids):
    new = []
    scores, cache = run(prompt, None)
    while len(new) < max_new_tokens:
        new.append(choose(scores))
        if new[-1] in stop_ids:
            break
        scores, cache = run(new[-1:], cache)
    return new


@generate_loop.wrong("does not stop at a stop id")
def never_stops(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, ())


@generate_loop.wrong("leaves stop ids out and goes on")
def filtered(run, prompt, choose, max_new_tokens, stop_ids):
    return [id for id in variant(run, prompt, choose, max_new_tokens, ()) if id not in stop_ids]


@generate_loop.wrong("a stop id at the end of the prompt")
def while_not_ended(run, prompt, choose, max_new_tokens, stop_ids):
    text = list(prompt)
    scores, cache = run(text, None)
    while text[-1] not in stop_ids and len(text) < len(prompt) + max_new_tokens:
        text.append(choose(scores))
        scores, cache = run(text[-1:], cache)
    return [id for id in text[len(prompt) :] if id not in stop_ids]


@generate_loop.wrong("the prompt goes through the model in pieces")
def token_by_token(run, prompt, choose, max_new_tokens, stop_ids):
    cache = None
    for id in prompt:
        scores, cache = run([id], cache)
    new = []
    while len(new) < max_new_tokens and (chosen := choose(scores)) not in stop_ids:
        new.append(chosen)
        scores, cache = run([chosen], cache)
    return new


@generate_loop.wrong("it sends tokens again that the cache holds")
def always_from_the_start(run, prompt, choose, max_new_tokens, stop_ids):
    new = []
    while len(new) < max_new_tokens:
        chosen = choose(run(prompt + new, None)[0])
        if chosen in stop_ids:
            break
        new.append(chosen)
    return new


@generate_loop.wrong("it runs the model more often than there are tokens")
def looks_ahead(run, prompt, choose, max_new_tokens, stop_ids):
    new = []
    scores, cache = run(prompt, None)
    while len(new) < max_new_tokens and choose(scores) not in stop_ids:
        new.append(choose(scores))
        run([new[-1]], cache)
        scores, cache = run([new[-1]], cache)
    return new


@generate_loop.wrong("it sends the last token through the model")
def decodes_after_the_last(run, prompt, choose, max_new_tokens, stop_ids):
    return variant(run, prompt, choose, max_new_tokens, stop_ids)


@generate_loop.wrong("it sends the stop id through the model")
def runs_before_it_looks(run, prompt, choose, max_new_tokens, stop_ids):
    new, (scores, cache) = [], run(prompt, None)
    for step in range(max_new_tokens):
        chosen = choose(scores)
        if step + 1 < max_new_tokens:
            scores, cache = run([chosen], cache)
        if chosen in stop_ids:
            break
        new.append(chosen)
    return new


@generate_loop.wrong("it goes on with the next step")
def continue_in_a_for(run, prompt, choose, max_new_tokens, stop_ids):
    new, cache, todo = [], None, prompt
    for _ in range(max_new_tokens):
        scores, cache = run(todo, cache)
        chosen = choose(scores)
        if chosen in stop_ids:
            continue
        new.append(chosen)
        todo = [chosen]
    return new


@generate_loop.wrong("until it has tokens enough")
def continue_in_a_while(run, prompt, choose, max_new_tokens, stop_ids):
    new, cache, todo = [], None, prompt
    while len(new) < max_new_tokens:
        scores, cache = run(todo, cache)
        chosen = choose(scores)
        if chosen in stop_ids:
            continue
        new.append(chosen)
        todo = [chosen]
    return new


# ---- append_to_cache ------------------------------------------------------------------------------

append_to_cache = Proof("append_to_cache")


@append_to_cache.right
def by_cat(kept, keys, values):
    if kept is None:
        return keys, values
    old_keys, old_values = kept
    return torch.cat([old_keys, keys], -2), torch.cat([old_values, values], -2)


@append_to_cache.right
def into_new_memory(kept, keys, values):
    pairs = ((None, keys), (None, values)) if kept is None else ((kept[0], keys), (kept[1], values))
    grown = []
    for old, new in pairs:
        batch, heads, n, width = new.shape
        start = 0 if old is None else old.shape[2]
        room = torch.zeros(batch, heads, start + n, width)
        if old is not None:
            room[:, :, :start] = old
        room[:, :, start:] = new
        grown.append(room)
    return tuple(grown)


@append_to_cache.right
def position_by_position(kept, keys, values):
    if kept is None:
        return keys, values
    for i in range(keys.shape[2]):
        kept = [torch.cat((old, new[:, :, i : i + 1]), 2) for old, new in zip(kept, (keys, values), strict=True)]
    return tuple(kept)


@append_to_cache.wrong("it joins the heads")
def along_heads(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((kept[0], keys), 1), torch.cat((kept[1], values), 1))


@append_to_cache.wrong("it joins the texts of the batch")
def along_the_first(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((kept[0], keys)), torch.cat((kept[1], values)))


@append_to_cache.wrong("it joins the numbers of a position")
def along_the_last(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((kept[0], keys), -1), torch.cat((kept[1], values), -1))


@append_to_cache.wrong("the new positions stand in front")
def in_front(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((keys, kept[0]), 2), torch.cat((values, kept[1]), 2))


@append_to_cache.wrong("what was kept is lost")
def new_alone(kept, keys, values):
    return keys, values


@append_to_cache.wrong("the new positions are not there")
def old_alone(kept, keys, values):
    return kept or (keys, values)


@append_to_cache.wrong("keys come first")
def exchanged(kept, keys, values):
    return by_cat(kept, keys, values)[::-1]


@append_to_cache.wrong("its values are the keys once more")
def keys_twice(kept, keys, values):
    return by_cat(kept, keys, values)[:1] * 2


@append_to_cache.wrong("it adds the numbers up")
def summed(kept, keys, values):
    return (keys, values) if kept is None else (kept[0] + keys, kept[1] + values)


@append_to_cache.wrong("it keeps the last one alone")
def newest(kept, keys, values):
    return (keys, values) if kept is None else by_cat(kept, keys[..., -1:, :], values[..., -1:, :])


@append_to_cache.wrong("only the keys grow")
def values_forgotten(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((kept[0], keys), 2), kept[1])


@append_to_cache.wrong("the new values stand behind the old keys")
def keys_for_both(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((kept[0], keys), 2), torch.cat((kept[0], values), 2))


@append_to_cache.wrong("it stacks old and new, which makes one more dimension")
def by_stack(kept, keys, values):
    return (keys, values) if kept is None else (torch.stack((kept[0], keys)), torch.stack((kept[1], values)))


@append_to_cache.wrong("it does not take `kept` apart")
def the_pair_itself(kept, keys, values):
    return (keys, values) if kept is None else (torch.cat((kept, keys), 2), torch.cat((kept, values), 2))


@append_to_cache.wrong("it stops with TypeError: 'NoneType'")
def never_empty(kept, keys, values):
    return torch.cat((kept[0], keys), 2), torch.cat((kept[1], values), 2)


@append_to_cache.wrong("it returns a list of 2")
def as_a_list(kept, keys, values):
    return list(by_cat(kept, keys, values))


# ---- stop_text ------------------------------------------------------------------------------------

stop_text = Proof("stop_text")


@stop_text.right
def by_partition(held, piece, stop):
    before, found, _ = (held + piece).partition(stop)
    if found:
        return before, "", True
    n = max(n for n in range(len(stop)) if before.endswith(stop[:n]))
    return before[: len(before) - n], before[len(before) - n :], False


@stop_text.right
def by_a_loop(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.find(stop)], "", True
    for start in range(max(0, len(text) - len(stop) + 1), len(text)):
        if stop.startswith(text[start:]):
            return text[:start], text[start:], False
    return text, "", False


@stop_text.right
def letter_by_letter(held, piece, stop):
    shown, waiting = "", held
    for letter in piece:
        waiting += letter
        while not stop.startswith(waiting):
            shown, waiting = shown + waiting[0], waiting[1:]
        if waiting == stop:
            return shown, "", True
    return shown, waiting, False


def hold(text, stop):
    return max(n for n in range(len(stop)) if text.endswith(stop[:n]))


@stop_text.wrong("it looks in the new piece alone")
def piece_alone(held, piece, stop):
    if stop in piece:
        return held + piece.split(stop)[0], "", True
    n = hold(piece, stop)
    return held + piece[: len(piece) - n], piece[len(piece) - n :], False


@stop_text.wrong("what was held back is lost")
def forgets_held(held, piece, stop):
    return by_partition("", piece, stop)


@stop_text.wrong("puts what was held back behind")
def behind(held, piece, stop):
    return by_partition(piece, held, stop)


@stop_text.wrong("the stop string itself is shown")
def with_the_stop(held, piece, stop):
    shown, kept, ended = by_partition(held, piece, stop)
    return shown + stop * ended, kept, ended


@stop_text.wrong("what comes after the stop string is shown")
def cut_out(held, piece, stop):
    text = held + piece
    return (text.replace(stop, ""), "", True) if stop in text else by_partition(held, piece, stop)


@stop_text.wrong("it stops at the last place")
def last_place(held, piece, stop):
    text = held + piece
    return (text.rpartition(stop)[0], "", True) if stop in text else by_partition(held, piece, stop)


@stop_text.wrong("it holds back the stop string")
def stop_is_held(held, piece, stop):
    text = held + piece
    place = text.find(stop)
    return (text[:place], text[place:], True) if place >= 0 else by_partition(held, piece, stop)


@stop_text.wrong("it holds back what is after the stop string")
def rest_is_held(held, piece, stop):
    text = held + piece
    before, found, after = text.partition(stop)
    return (before, after, True) if found else by_partition(held, piece, stop)


@stop_text.wrong("does not say that the text has ended")
def silent(held, piece, stop):
    return *by_partition(held, piece, stop)[:2], False


@stop_text.wrong("it shows nothing, not even what stands before it")
def nothing_shown(held, piece, stop):
    return ("", "", True) if stop in held + piece else by_partition(held, piece, stop)


@stop_text.wrong("it holds nothing back")
def no_waiting(held, piece, stop):
    before, found, _ = (held + piece).partition(stop)
    return before, "", bool(found)


@stop_text.wrong("it holds everything back")
def all_waiting(held, piece, stop):
    before, found, _ = (held + piece).partition(stop)
    return (before, "", True) if found else ("", before, False)


@stop_text.wrong("less one, whatever they are")
def fixed_number(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    n = len(stop) - 1
    return text[:-n], text[-n:], False


@stop_text.wrong("it holds the shortest beginning back")
def first_fit(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    for n in range(1, len(stop)):
        if text.endswith(stop[:n]):
            return text[:-n], text[-n:], False
    return text, "", False


@stop_text.wrong("that end is enough")
def all_or_nothing(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    return ("", text, False) if hold(text, stop) else (text, "", False)


@stop_text.wrong("it shows what it holds back")
def shown_and_held(held, piece, stop):
    shown, kept, ended = by_partition(held, piece, stop)
    return shown + kept, kept, ended


@stop_text.wrong("it ends the text only where the text ends with the stop string")
def at_the_end_alone(held, piece, stop):
    text = held + piece
    return (text.removesuffix(stop), "", True) if text.endswith(stop) else holding(text, hold(text, stop))


@stop_text.wrong("is the stop string and nothing else")
def equal(held, piece, stop):
    text = held + piece
    return ("", "", True) if text == stop else holding(text, hold(text, stop))


def holding(text, n):
    return text[: len(text) - n], text[len(text) - n :], False


@stop_text.wrong("from the first character that could begin")
def from_the_first_letter(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    place = text.find(stop[0])
    return (text, "", False) if place < 0 else (text[:place], text[place:], False)


@stop_text.wrong("it never holds back all of the stop string but its last character")
def one_short(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    for n in range(len(stop) - 2, 0, -1):
        if text.endswith(stop[:n]):
            return text[:-n], text[-n:], False
    return text, "", False


@stop_text.wrong("it never holds back a single character")
def two_at_least(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    for n in range(len(stop) - 1, 1, -1):
        if text.endswith(stop[:n]):
            return text[:-n], text[-n:], False
    return text, "", False


@stop_text.wrong("what was held back is shown twice")
def twice(held, piece, stop):
    shown, kept, ended = by_partition(held, piece, stop)
    return held + shown, kept, ended


@stop_text.wrong("at the end it shows what was held back")
def held_alone(held, piece, stop):
    return (held, "", True) if stop in held + piece else by_partition(held, piece, stop)


@stop_text.wrong("forget what it holds back")
def nothing_came(held, piece, stop):
    return by_partition(held, piece, stop) if piece else ("", "", False)


@stop_text.wrong("an empty piece makes it show")
def nothing_more_to_wait_for(held, piece, stop):
    return by_partition(held, piece, stop) if piece else (held, "", False)


@stop_text.wrong("it stops with ValueError: max()")
def no_beginning(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    beginnings = [stop[:n] for n in range(1, len(stop))]
    longest = max(len(part) for part in beginnings)
    for n in range(longest, 0, -1):
        if text.endswith(stop[:n]):
            return text[:-n], text[-n:], False
    return text, "", False


@stop_text.wrong("it stops with ValueError: substring not found")
def always_there(held, piece, stop):
    text = held + piece
    return text[: text.index(stop)], "", True


# ---- accept_or_reject -----------------------------------------------------------------------------

accept_or_reject = Proof("accept_or_reject")


@accept_or_reject.right
def by_quotient(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    sums = torch.clamp(target - draft, min=0).cumsum(0)
    return int((sums / sums[-1] > v).nonzero()[0])


@accept_or_reject.right
def by_search(target, draft, token, u, v):
    if draft[token] * u >= target[token]:
        left = (target - draft).relu()
        token = torch.searchsorted(left.cumsum(0), v * left.sum(), right=True).item()
    return token


@accept_or_reject.right
def with_lists(target, draft, token, u, v):
    p, q = target.tolist(), draft.tolist()
    if u < min(1, p[token] / q[token]):
        return token
    left = [max(0, a - b) for a, b in zip(p, q, strict=True)]
    total = 0.0
    for id, part in enumerate(left):
        total += part / sum(left)
        if total > v:
            return id


def draw_from(chances, v):
    return int((chances.cumsum(0) / chances.sum() > v).nonzero()[0])


@accept_or_reject.wrong("always kept")
def trusting(target, draft, token, u, v):
    return token


@accept_or_reject.wrong("it refuses every guess that should be kept")
def never_keeps(target, draft, token, u, v):
    return draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("it keeps what it should refuse")
def the_wrong_way_round(target, draft, token, u, v):
    if u > target[token] / draft[token]:
        return token
    return draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("only where the target gives it at least as much")
def strict(target, draft, token, u, v):
    return token if target[token] >= draft[token] else draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("the quotient is upside down")
def inverse(target, draft, token, u, v):
    return token if u < draft[token] / target[token] else draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("with the target's probability")
def by_target(target, draft, token, u, v):
    return token if u < target[token] else draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("with the draft's probability")
def by_draft(target, draft, token, u, v):
    return token if u < draft[token] else draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("a draw from the whole target")
def target_again(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else draw_from(target, v)


@accept_or_reject.wrong("a draw from the draft")
def draft_again(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else draw_from(draft, v)


@accept_or_reject.wrong("what the draft has in excess")
def other_excess(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else draw_from((draft - target).clamp(min=0), v)


@accept_or_reject.wrong("it takes the size of the difference")
def absolute(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else draw_from((target - draft).abs(), v)


@accept_or_reject.wrong("it is drawn from as it is")
def unscaled(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    return int(((target - draft).clamp(min=0).cumsum(0) > v).nonzero()[0])


@accept_or_reject.wrong("a single share above v")
def without_cumsum(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    left = (target - draft).clamp(min=0)
    return int((left / left.sum() > v).nonzero()[0])


@accept_or_reject.wrong("a negative share is left")
def without_clamp(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    left = target - draft
    return int(((left / left.sum()).cumsum(0) > v).nonzero()[0])


@accept_or_reject.wrong("from all that the target gives to the other tokens")
def any_other(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    others = target.clone()
    others[token] = 0
    return draw_from(others, v)


@accept_or_reject.wrong("where u is exactly target / draft")
def up_to_the_quotient(target, draft, token, u, v):
    return token if u <= target[token] / draft[token] else draw_from((target - draft).clamp(min=0), v)


@accept_or_reject.wrong("the running sum reaches v")
def from_v_on(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    left = (target - draft).clamp(min=0)
    return int((left.cumsum(0) / left.sum() < v).sum())


@accept_or_reject.wrong("it takes the largest of what is left")
def most_missing(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else int((target - draft).argmax())


@accept_or_reject.wrong("it draws with u")
def u_twice(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else draw_from((target - draft).clamp(min=0), u)


@accept_or_reject.wrong("the target's favourite")
def best(target, draft, token, u, v):
    return token if u < target[token] / draft[token] else int(target.argmax())


@accept_or_reject.wrong("it returns True or False")
def yes_or_no(target, draft, token, u, v):
    return bool(u < target[token] / draft[token])


@generate_loop.wrong("asks `choose` more often")
def chooses_twice(run, prompt, choose, max_new_tokens, stop_ids):
    new, ids, cache = [], prompt, None
    while len(new) < max_new_tokens:
        scores, cache = run(ids, cache)
        if choose(scores) in stop_ids:
            break
        new.append(choose(scores))
        ids = new[-1:]
    return new


@generate_loop.wrong("ends where an id comes again")
def no_id_twice(run, prompt, choose, max_new_tokens, stop_ids):
    new, ids, cache = [], prompt, None
    while len(new) < max_new_tokens:
        scores, cache = run(ids, cache)
        id = choose(scores)
        if id in stop_ids or id in new:
            break
        new.append(id)
        ids = [id]
    return new


@generate_loop.wrong("the id 0 is an id like any other")
def zero_ends_it(run, prompt, choose, max_new_tokens, stop_ids):
    new, ids, cache = [], prompt, None
    while len(new) < max_new_tokens:
        scores, cache = run(ids, cache)
        id = choose(scores)
        if not id or id in stop_ids:
            break
        new.append(id)
        ids = [id]
    return new


@stop_text.wrong("holds back what has a character of the stop string")
def any_of_its_characters(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    end = len(text)
    while end and text[end - 1] in stop[:-1] and len(text) - end < len(stop) - 1:
        end -= 1
    return text[:end], text[end:], False


@stop_text.wrong("gives another value than it should")
def as_a_pattern(held, piece, stop):
    text = held + piece
    try:
        found = re.search(stop, text)
    except re.error:
        found = None
    if found:
        return text[: found.start()], "", True
    for n in range(len(stop) - 1, 0, -1):
        if text.endswith(stop[:n]):
            return text[:-n], text[-n:], False
    return text, "", False
