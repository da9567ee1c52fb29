"""What homework 1 holds answers against, itself held against the library and others."""

import json

import torch

from course_lib.input_processing.bpe_training import train_bpe
from course_lib.input_processing.patterns import split_words
from course_lib.lessons.homework_1.merges import BASE_IDS, best_pair, byte_words, learn_merges, passage


def test_training_here_is_training_in_the_library():
    random = torch.Generator().manual_seed(5)
    for length in (400, 4_000, 20_000):
        text = passage(random, length)
        words = byte_words(split_words("gpt2")(text))
        ours = learn_merges(words, BASE_IDS, 120, best_pair)
        assert ours == train_bpe(text, 256 + 120)


def test_and_in_tokenizers():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from course_lib.input_processing.bpe import bytes_to_unicode

    text = passage(torch.Generator().manual_seed(6), 10_000)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=356, initial_alphabet=alphabet, show_progress=False)
    )
    value = {character: byte for byte, character in bytes_to_unicode().items()}
    theirs = [
        tuple(bytes(value[character] for character in token) for token in pair)
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]
    words = byte_words(split_words("gpt2")(text))
    assert learn_merges(words, BASE_IDS, 100, best_pair) == theirs
