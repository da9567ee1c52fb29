"""How the numbers are learned: predict the next token, measure the error, move every weight a little, repeat."""
