"""One transformer block: attention, then the feed-forward network, each *added* to the residual stream."""

from jaxtyping import Float
from torch import Tensor, nn

from course_lib.config import TransformerConfig
from course_lib.transformer_block.attention import MultiHeadAttention
from course_lib.transformer_block.feed_forward import feed_forward
from course_lib.transformer_block.forward_pass import Pass
from course_lib.transformer_block.normalization import norm


class Block(nn.Module):
    """Attention and a feed-forward network, with their norms.

    Pre-norm, as in GPT-2 and Llama: a part reads a normalized copy of the stream, and its result is added to the
    stream itself, x + part(norm(x)); a second norm may stand on the result. Post-norm, as in Vaswani et al. 2017
    (section 3.1): the sum is normalized, norm(x + part(x)), so the stream itself passes through every norm.
    """

    def __init__(self, config: TransformerConfig, number: int):
        super().__init__()
        self.post_norm = config.norm_position == "post"
        before, on_result = config.norm_position != "result", config.norm_position in ("result", "both")
        self.attention_norm = norm(config) if before else nn.Identity()
        self.attention = MultiHeadAttention(config, number)
        self.attention_result_norm = norm(config) if on_result else nn.Identity()
        self.feed_forward_norm = norm(config) if before else nn.Identity()
        self.feed_forward = feed_forward(config)
        self.feed_forward_result_norm = norm(config) if on_result else nn.Identity()

    def forward(self, x: Float[Tensor, "batch position d_model"], run: Pass) -> Float[Tensor, "batch position d_model"]:
        """The stream after this block."""
        if self.post_norm:
            x = self.attention_norm(x + self.attention(x, run))
            return self.feed_forward_norm(x + self.feed_forward(x))
        x = x + self.attention_result_norm(self.attention(self.attention_norm(x), run))
        return x + self.feed_forward_result_norm(self.feed_forward(self.feed_forward_norm(x)))
