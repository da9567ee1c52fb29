"""Hypothesis strategies for text that is hard to cut."""

from hypothesis import strategies as st

# What tries a pattern: few kinds of characters, so that they meet; and every ending, space and break that it names.
TRICKY = [
    *"aZéßʕɐſǅʰ漢ا־\u0301\u200d1²Ⅷ٣ '’\"!/.-_\t\n\r\x0b\x1c\x85\xa0\u2028\u3000😀🏽\x00\x7f\ufeff\uffff",
    *["'s", "'S", "'ſ", "'ll", "'VE", "'re", "  ", "\r\n", "\n\n", "camelCase", " the", "2026", "🇨🇭"],
]
tricky_text = st.lists(st.sampled_from(TRICKY), max_size=20).map("".join)
any_text = st.text(max_size=40)  # every code point but the surrogates, the unassigned ones too
