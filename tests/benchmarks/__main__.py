"""Speed against peers, side by side in one run: `make bench`. It prints ratios; nothing here can fail a test.

Every pair is measured in alternation, several times, and the best of each counts: what else runs on the machine
disturbs both alike.
"""

import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

THREADS = 2
ROUNDS = 3


def best_of(*contestants: Callable[[], object]) -> list[float]:
    """The shortest time of each, in seconds, over ROUNDS rounds in turn."""
    times = [[] for _ in contestants]
    for _ in range(ROUNDS):
        for contestant, taken in zip(contestants, times, strict=True):
            started = time.perf_counter()
            contestant()
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]


def decode(table: Table) -> None:
    """Greedy decoding at batch 1 in float32, the prompt's prefill taken off."""
    from transformers import AutoModelForCausalLM

    from course_lib import assets, load
    from course_lib.prediction.generation import chooser, generate_ids

    file = assets.path("smollm2-135m")
    started = time.perf_counter()
    llm = load("smollm2-135m", on="cpu")
    loading = time.perf_counter() - started
    started = time.perf_counter()
    peer = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    peer_loading = time.perf_counter() - started
    table.add_row("load the GGUF file", f"{loading:.1f} s", "transformers", f"{peer_loading:.1f} s")

    ids = llm.tokenizer.encode("The dog ran up the")
    batch, greedy = torch.tensor([ids]), chooser(temperature=0)

    def ours(n):
        return lambda: list(generate_ids(llm.transformer, ids, greedy, n))

    def theirs(n):
        settings = dict(do_sample=False, pad_token_id=2, eos_token_id=None, max_new_tokens=n, min_new_tokens=n)
        return lambda: peer.generate(batch, attention_mask=torch.ones_like(batch), **settings)

    n = 64
    one, peer_one, many, peer_many = best_of(ours(1), theirs(1), ours(n + 1), theirs(n + 1))
    per_token, peer_per_token = ((many - one) / n, (peer_many - peer_one) / n)
    compare(table, "decode one token", per_token, "transformers", peer_per_token, "ms", 1e3)

    prompt = torch.randint(49_152, (1, 512), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prefill, peer_prefill = best_of(
            lambda: llm.transformer.hidden_states(prompt), lambda: peer.model(prompt).last_hidden_state
        )
    compare(table, "prefill 512 tokens", prefill, "transformers", peer_prefill, "ms", 1e3)


def encode(table: Table) -> None:
    """Encoding 5 MB of English, word cache cold, one thread."""
    import tiktoken

    from course_lib import assets
    from course_lib.input_processing.patterns import PATTERNS
    from course_lib.input_processing.tokenizer_files import read_tiktoken
    from course_lib.pretrained.vocabularies import load_tokenizer

    text = "".join(path.read_text("utf-8") for path in assets.paths("shakespeare"))
    cold = iter([load_tokenizer("gpt2") for _ in range(ROUNDS)])
    ranks = read_tiktoken(assets.path("gpt2-vocabulary"))
    peer = tiktoken.Encoding("gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={})
    ours, theirs = best_of(lambda: next(cold).encode(text), lambda: peer.encode_ordinary(text))
    compare(table, "encode 5 MB of Shakespeare", ours, "tiktoken (Rust)", theirs, "s", 1)


def train_tokenizer(table: Table) -> None:
    """BPE training to 4,096 tokens on 5 MB of English; and against recounting everything for each merge, on 50 kB."""
    from collections import Counter
    from itertools import pairwise

    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    from course_lib.input_processing.bpe_training import train_bpe
    from course_lib.input_processing.patterns import split_words
    from course_lib.input_processing.tokenizer import Tokenizer
    from course_lib.text_worlds import shakespeare

    text, vocab_size = shakespeare.text(), 4096

    def peer():
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator([text], trainer)

    whole, theirs = best_of(lambda: train_bpe(text, vocab_size), peer)
    compare(table, "train BPE on 5 MB, 4,096 tokens", whole, "tokenizers (Rust)", theirs, "s", 1)

    part, n_merges = text[:50_000], 60

    def recounting():
        words = split_words("gpt2")(part)
        for new in range(n_merges):
            counts = Counter(left + right for word in words for left, right in pairwise(word))
            pair = max(counts, key=counts.get)
            words = [word.replace(pair, chr(256 + new)) for word in words]

    ours, theirs = best_of(lambda: train_bpe(part, 256 + n_merges), recounting)
    compare(table, f"train BPE on 50 kB, {n_merges} merges", ours, "recounting for each merge", theirs, "ms", 1e3)
    extrapolated = theirs * len(text) / len(part) * (vocab_size - 256) / n_merges
    peer_name = "recounting, EXTRAPOLATED from the row above"
    compare(table, "train BPE on 5 MB, 4,096 tokens", whole, peer_name, extrapolated, "s", 1)

    merges = train_bpe(text, vocab_size)
    cold = iter([Tokenizer.from_pairs(merges) for _ in range(ROUNDS)])
    (taken,) = best_of(lambda: next(cold).encode(text))
    table.add_row("encode 5 MB, freshly trained", f"{taken:.2f} s", "", "", f"{len(text) / 1e6 / taken:.1f} MB/s")


def tell_stories(table: Table) -> None:
    """Hill World's stories, distinct ones, from one core."""
    from itertools import islice

    from course_lib.text_worlds import hill_world

    told = set()
    (taken,) = best_of(lambda: told.update(islice(hill_world.stories(seed=len(told)), 20_000)))
    speed = sum(map(len, told)) / ROUNDS / taken * 60 / 1e6
    table.add_row("20,000 stories of Hill World", f"{taken:.2f} s", "", "", f"{speed:.0f} MB a minute")


def train_model(table: Table) -> None:
    """One training step of a small GPT-2, batch and optimizer included, in the precision that the Trainer picks."""
    import torch.nn.functional as F
    from transformers import GPT2Config, GPT2LMHeadModel

    from course_lib.config import TransformerConfig
    from course_lib.training.batches import random_batch
    from course_lib.training.trainer import Trainer
    from course_lib.transformer_block.transformer import Transformer

    vocab, context, batch, steps = 96, 128, 32, 5
    shape = dict(d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, d_head=32, d_ff=512)
    gpt2 = dict(norm="layer_norm", positions="learned", feed_forward="mlp", activation="gelu_tanh", bias=True)
    model = Transformer(TransformerConfig(vocab_size=vocab, context_length=context, **shape, **gpt2))
    no_dropout = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    config = GPT2Config(vocab_size=vocab, n_positions=context, n_embd=128, n_layer=4, n_head=4, **no_dropout)
    peer = GPT2LMHeadModel(config).train()
    assert sum(p.numel() for p in peer.parameters()) == model.n_parameters()

    tokens = torch.randint(vocab, (100_000,), generator=torch.Generator().manual_seed(0))
    trainer = Trainer(model, tokens, steps=10_000, batch_size=batch, context_length=context, progress=False)
    optimizer, generator = torch.optim.AdamW(peer.parameters(), fused=True), torch.Generator().manual_seed(0)
    precision = trainer.settings["precision"]

    def theirs():
        for _ in range(steps):
            inputs, targets = random_batch(tokens, batch, context, generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                error = F.cross_entropy(peer(inputs, use_cache=False).logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            error.backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
            optimizer.step()

    ours, theirs = best_of(lambda: trainer.run(trainer.step + steps), theirs)
    what = f"train GPT-2's form, {model.n_parameters() / 1e6:.1f} M, {precision}"
    per_second = steps * batch * context
    table.add_row(
        what, f"{per_second / ours:,.0f} tok/s", "transformers", f"{per_second / theirs:,.0f} tok/s",
        f"{theirs / ours:.2f} ×",
    )  # fmt: skip


def compare(table: Table, what: str, ours: float, peer: str, theirs: float, unit: str, scale: float) -> None:
    ratio = theirs / ours
    table.add_row(what, f"{ours * scale:.1f} {unit}", peer, f"{theirs * scale:.1f} {unit}", f"{ratio:.2f} ×")


def main() -> None:
    torch.set_num_threads(THREADS)
    table = Table("", "ours", "peer", "peer's", "as fast as the peer", title=f"{THREADS} threads, best of {ROUNDS}")
    decode(table)
    encode(table)
    train_tokenizer(table)
    tell_stories(table)
    train_model(table)
    Console().print(table)


if __name__ == "__main__":
    main()
