"""One transformer block: attention, then the feed-forward network, each *added* to the residual stream."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.config import TransformerConfig
from course_lib.transformer_block.attention import Cache, MultiHeadAttention
from course_lib.transformer_block.feed_forward import feed_forward
from course_lib.transformer_block.normalization import norm


class Block(nn.Module):
    """Attention and a feed-forward network, with a norm each.

    Pre-norm, as in GPT-2 and Llama: a part reads a normalized copy of the stream, and its result is added to the
    stream itself, x + part(norm(x)). Post-norm, as in Vaswani et al. 2017 (section 3.1): the sum is normalized,
    norm(x + part(x)), so the stream itself passes through every norm.
    """

    def __init__(self, config: TransformerConfig, layer: int):
        super().__init__()
        self.post_norm = config.norm_position == "post"
        self.attention_norm = norm(config)
        self.attention = MultiHeadAttention(config, layer)
        self.feed_forward_norm = norm(config)
        self.feed_forward = feed_forward(config)

    def forward(
        self,
        x: Float[Tensor, "batch position d_model"],
        angles: Float[Tensor, "*#row position pair"] | None = None,
        cache: Cache | None = None,
        weights: bool = False,
        mask: Bool[Tensor, "batch #query key"] | None = None,
    ) -> tuple[Float[Tensor, "batch position d_model"], Float[Tensor, "batch heads query key"] | None]:
        """The stream after this block, and its attention weights if they are asked for."""
        if self.post_norm:
            gathered, table = self.attention(x, angles, cache, weights, mask)
            x = self.attention_norm(x + gathered)
            return self.feed_forward_norm(x + self.feed_forward(x)), table
        gathered, table = self.attention(self.attention_norm(x), angles, cache, weights, mask)
        x = x + gathered
        return x + self.feed_forward(self.feed_forward_norm(x)), table
