"""What all tests share: the real model, loaded once a worker, and small random ones."""

import platform

import jaxtyping
import pytest
import torch


def pytest_report_header():
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    cpu, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"Python {platform.python_version()}, torch {torch.__version__} ({build} build), {cpu}, {threads} threads"


@pytest.fixture(autouse=True)
def shapes_are_checked(request):
    """Not in the real model: its 30 layers call the same functions over and over, and each check doubles their time."""
    jaxtyping.config.update("jaxtyping_disable", not {"smollm2", "bad_input"}.isdisjoint(request.fixturenames))
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def bad_input():
    """For a test of what a person may pass: the library's own sentence refuses it, not the checker of shapes."""


@pytest.fixture(scope="session")
def smollm2():
    from course_lib import load

    return load("smollm2-135m", on="cpu")


@pytest.fixture
def tiny():
    """A function that makes a small random Transformer; settings override the Llama-like shape."""
    from course_lib.config import TransformerConfig
    from course_lib.transformer_block.transformer import Transformer

    shape = dict(vocab_size=50, context_length=40, d_model=24, n_layers=3, n_heads=6, n_kv_heads=2, d_head=4, d_ff=32)
    gpt2 = dict(
        n_kv_heads=6, norm="layer_norm", positions="learned", feed_forward="mlp", activation="gelu_tanh", bias=True
    )

    def make(family="llama", **settings):
        torch.manual_seed(0)
        transformer = Transformer(TransformerConfig(**(shape | (gpt2 if family == "gpt2" else {}) | settings)))
        for parameter in transformer.parameters():  # large enough that every part shows in the logits
            torch.nn.init.normal_(parameter, std=0.4)
        return transformer.eval()

    return make
