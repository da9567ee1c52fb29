"""How a large language model works, from prompt to response.

    from course_lib import load
    llm = load("smollm2-135m")
    llm.generate("The dog ran up the")

The folders are the three phases of the journey, and BOXES says where each box of its picture is computed:

    input_processing     text → tokens and ids → token embeddings, positions → input embedding
    transformer_block    N times: normalize, self-attention in several heads, add; normalize, feed-forward, add
    prediction           logits → softmax probabilities → sampling → output token, and around again
"""

__all__ = ["BOXES", "load"]

BOXES = {
    "text": "input_processing.patterns.split_words",
    "tokens and ids": "input_processing.tokenizer.Tokenizer",
    "token embeddings": "input_processing.embeddings.embed",
    "positions": "input_processing.positions.position_scheme",
    "input embedding": "transformer_block.transformer.Transformer.embed",
    "self-attention": "transformer_block.attention.scaled_dot_product_attention",
    "multi-head": "transformer_block.attention.MultiHeadAttention",
    "add & normalize": "transformer_block.block.Block",
    "feed-forward": "transformer_block.feed_forward.GatedFeedForward",
    "logits": "transformer_block.transformer.Transformer.unembed",
    "softmax probabilities": "prediction.logits.softmax",
    "sampling": "prediction.sampling.draw",
    "output token": "prediction.generation.generate_ids",
}


def __getattr__(name):
    # torch takes seconds to import: `python -m course_lib doctor` must work without it
    if name == "load":
        from course_lib.llm import load

        return load
    raise AttributeError(f"module 'course_lib' has no attribute {name!r}")
