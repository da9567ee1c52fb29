"""Published weights and vocabularies, read into our own Transformer and Tokenizer."""
