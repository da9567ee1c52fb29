"""The texts that the course trains and tests on."""
