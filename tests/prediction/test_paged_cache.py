"""Another cache fits the model as it is: keys and values in pages, requests that come and go (Kwon et al. 2023).

The library serves with `KVCache`; this one is here to hold the protocol to its promise.
"""

from collections import deque

import pytest
import torch

from course_lib.prediction.generation import chooser, generate_ids
from course_lib.transformer_block.forward_pass import Cache

SIZE = 4  # positions in a page


class PagedCache(Cache):
    """Each request owns pages by number; the pass at hand is over `rows` of them, their ends side by side."""

    def __init__(self, config, n_pages):
        shape = (config.n_layers, n_pages, config.n_kv_heads, SIZE, config.d_head)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)
        self.free, self.pages, self.lengths, self.rows = list(range(n_pages)), {}, {}, []

    def take(self, rows, n_new):
        """The rows of the next pass; pages for their new tokens are taken once, for all layers."""
        self.rows = rows
        for row in rows:
            needed = -(-(self.lengths.setdefault(row, 0) + n_new) // SIZE)
            while len(self.pages.setdefault(row, [])) < needed:
                self.pages[row].append(self.free.pop())

    def release(self, row):
        self.free += self.pages.pop(row)
        del self.lengths[row]

    @property
    def longest(self):
        return max(self.lengths[row] for row in self.rows)

    def positions(self, n_new):
        return torch.tensor([[self.lengths[row] + i for i in range(n_new)] for row in self.rows])

    def mask(self, n_new):
        missing = torch.tensor([self.longest - self.lengths[row] for row in self.rows])
        return (torch.arange(self.longest + n_new) >= missing[:, None])[:, None]

    def append(self, layer, keys, values):
        return self._store(self.keys[layer], keys), self._store(self.values[layer], values)

    def _store(self, pages, new):
        n_new = new.shape[2]
        whole = new.new_zeros(len(self.rows), new.shape[1], self.longest + n_new, new.shape[3])
        for i, row in enumerate(self.rows):
            mine, end = torch.tensor(self.pages[row]), self.lengths[row] + n_new
            place = torch.arange(self.lengths[row], end)
            pages[mine[place // SIZE], :, place % SIZE] = new[i].transpose(0, 1)
            whole[i, :, -end:] = pages[mine].transpose(0, 1).flatten(1, 2)[:, :end]
        return whole

    def grow(self, n_new):
        for row in self.rows:
            self.lengths[row] += n_new


@torch.no_grad()
def serve(model, requests, n_pages, most):
    """The texts of (prompt, chooser, max_new_tokens) each: who is done leaves, who waits joins."""
    cache, waiting, going = PagedCache(model.config, n_pages), deque(enumerate(requests)), []
    texts, joined = [list(prompt) for prompt, _, _ in requests], []

    def step(rows, ids):
        cache.take(rows, len(ids[0]))
        logits = model.unembed(model.hidden_states(torch.tensor(ids), cache)[:, -1])
        for row, scores in zip(rows, logits, strict=True):
            prompt, choose, most_new = requests[row]
            texts[row].append(choose(scores, texts[row]))
            if len(texts[row]) == len(prompt) + most_new:
                cache.release(row)
                going.remove(row)

    while waiting or going:
        while waiting and len(going) < most:
            row, (prompt, _, _) = waiting.popleft()
            going.append(row)
            joined.append(len(going))
            step([row], [prompt])
        if going:
            step(list(going), [[texts[row][-1]] for row in going])
    return texts, cache, joined


@pytest.mark.parametrize("positions", ["rope", "learned", "alibi", "none"])
def test_requests_that_come_and_go_say_what_each_says_alone(tiny, positions):
    model, source = tiny(positions=positions), torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.mul_(8)  # so that what is next hangs on what went before
    prompts = [torch.randint(50, (n,), generator=source).tolist() for n in (3, 9, 1, 14, 6, 2, 8)]
    new = (5, 12, 3, 9, 7, 4, 10)

    def choosers():
        return [chooser(temperature=0.8, seed=number) for number in range(7)]

    alone = [
        prompt + list(generate_ids(model, prompt, choose, n))
        for prompt, choose, n in zip(prompts, choosers(), new, strict=True)
    ]
    texts, cache, joined = serve(model, list(zip(prompts, choosers(), new, strict=True)), n_pages=18, most=3)
    assert texts == alone
    assert sorted(cache.free) == list(range(18)), "every page is free again"
    assert len(joined) == 7 and max(joined) == 3
