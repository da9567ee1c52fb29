"""Transformers whose insides are known."""

import pytest
import torch

KINDS = {
    "llama": dict(),
    "gpt2": dict(family="gpt2"),
    "one kv head, untied, biased": dict(n_kv_heads=1, tie_embeddings=False, bias=True),
    "post-norm": dict(norm_position="post"),
    "gpt2, post-norm": dict(family="gpt2", norm_position="post"),
    "experts": dict(n_experts=3, n_active_experts=2),
    "alibi": dict(positions="alibi"),
    "sinusoidal": dict(positions="sinusoidal", feed_forward="mlp", activation="relu"),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def model(request, tiny):
    """A small random transformer of each kind."""
    return tiny(**request.param)


@pytest.fixture
def ids():
    return torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def copier():
    """Two layers of two heads, written by hand, that continue a text by what came after the same token before.

    The stream has four places: the token (one-hot), its position (one-hot), the token before it, what comes next. Head
    0 of layer 0 looks one position back and writes which token stands there. Head 1 of layer 1 looks for a place where
    the token *before* is its own token, and copies the token there to "what comes next", which the logits are read
    from. The two other heads and the feed-forward networks are random and small.
    """
    from course_lib.config import TransformerConfig
    from course_lib.transformer_block.transformer import Transformer

    V, P, D = 16, 32, 40  # vocabulary, positions, d_head
    config = TransformerConfig(
        vocab_size=V, context_length=P, d_model=3 * V + P, n_layers=2, n_heads=2, n_kv_heads=2, d_head=D, d_ff=8,
        positions="learned", tie_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config).eval()
    token, position, before, after = (slice(0, V), slice(V, V + P), slice(V + P, 2 * V + P), slice(2 * V + P, None))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.005)
        model.token_embedding.weight[:, token] = torch.eye(V)
        model.position_embedding.weight[:, position] = torch.eye(P)
        model.output_head.weight[:, after] = torch.eye(V)
        first, second = (block.attention for block in model.blocks)

        def head(attention, h, *matrices):
            rows = slice(h * D, (h + 1) * D)
            for name, matrix in zip(("query", "key", "value"), matrices, strict=True):
                weight = getattr(attention, name).weight[rows]
                weight.zero_()
                for column, block in matrix:
                    weight[: block.shape[0], column] = block

        sharp = 20.0
        back = torch.eye(P).roll(-1, 0)  # row p − 1 has its 1 in column p: the query of position p names p − 1
        back[-1] = 0  # … and position 0 has none before it
        head(first, 0, [(position, sharp * back)], [(position, sharp * torch.eye(P))], [(token, torch.eye(V))])
        # Position 0 could only look at itself, so what it wrote as "the token before" must not be found: −1 in a
        # row of its own, against which every query has a large number (a token's one-hot sums to 1).
        same, nowhere = torch.eye(V), torch.zeros(V + 1, P)
        nowhere[V, 0] = -sharp
        every = torch.cat((sharp * same, sharp * torch.ones(1, V)))
        head(second, 1, [(token, every)], [(before, sharp * same), (position, nowhere)], [(token, same)])
        for attention, h, place in ((first, 0, before), (second, 1, after)):
            attention.output.weight[:, h * D : (h + 1) * D] = 0
            attention.output.weight[place, h * D : h * D + V] = torch.eye(V)
    return model
