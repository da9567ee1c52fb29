"""Published weights → our Transformer: from a GGUF file, or from a folder in Hugging Face's layout."""

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from course_lib.config import TransformerConfig
from course_lib.pretrained import names
from course_lib.pretrained.gguf import GGUF
from course_lib.transformer_block.transformer import Transformer


def transformer_from_gguf(file: GGUF) -> Transformer:
    """Unpack a GGUF file's tensors into a float32 Transformer.

    Raises:
        ValueError: the file's model is of a family, or stored in a form, that is not read here.
    """
    config = names.config_from_gguf(file.metadata, set(file.tensors))
    return _fill(
        config, lambda name: (file.tensor(theirs := names.translate(name, names.GGUF)), theirs), set(file.tensors)
    )


def transformer_from_folder(folder: str | Path) -> Transformer:
    """Read config.json and *.safetensors into a float32 Transformer. Nothing in the folder is executed.

    Raises:
        FileNotFoundError: config.json or the safetensors are missing.
        ValueError: the model is of a family that is not read here, or the weights do not fit config.json.
    """
    folder = Path(folder)
    settings = read_json(folder / "config.json")
    config = names.config_from_hugging_face(settings)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no .safetensors file (pickled .bin weights are not read: they can run code)"
        )

    with ExitStack() as stack:
        where = {}
        for path in files:
            try:
                opened = stack.enter_context(safe_open(path, framework="pt"))
            except SafetensorError as error:
                raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch it again") from error
            where |= dict.fromkeys(opened.keys(), opened)
        read = _read_gpt2 if settings["model_type"] == "gpt2" else _read_llama
        return _fill(config, lambda name: read(name, where, config), set(where))


# Kept in old checkpoints though they are computed, not learned; and the head, where the embedding serves as one.
NOT_LEARNED = re.compile(r"attn\.(masked_)?bias$|rotary_emb\.inv_freq$")
HEADS = {"lm_head.weight"}


def _fill(config: TransformerConfig, read: Callable[[str], tuple[Tensor, str]], stored: set[str]) -> Transformer:
    """A Transformer whose every parameter is read by our name; `read` also says under which stored name it found it."""
    with torch.device("meta"):  # shapes only: no memory is taken and no time spent on random starting values
        transformer = Transformer(config)
    weights, used = {}, set()
    for name, parameter in transformer.state_dict().items():
        weights[name], theirs = read(name)
        used.add(theirs)
        if weights[name].shape != parameter.shape:
            raise ValueError(
                f"{theirs} has the shape {tuple(weights[name].shape)} where the model's configuration needs "
                f"{tuple(parameter.shape)} ({name})"
            )
    left_over = {name for name in stored - used if not NOT_LEARNED.search(name)}
    left_over -= HEADS if config.tie_embeddings else set()
    if left_over:
        raise ValueError(
            f"{len(left_over)} stored tensors have no place in this model, {min(left_over)} first: "
            "it has a part that is not built here"
        )
    transformer.load_state_dict(weights, assign=True)
    return transformer.eval()


def _stored(theirs: str, where: dict) -> tuple[Tensor, str]:
    bare = theirs.split(".", 1)[1]  # a checkpoint of the base model alone has no "transformer." or "model." in front
    for name in (theirs, bare):
        if name in where:
            return where[name].get_tensor(name).float(), name
    raise ValueError(f"the safetensors lack {theirs}, which config.json promises")


def _read_llama(name: str, where: dict, config: TransformerConfig) -> tuple[Tensor, str]:
    return _stored(names.translate(name, names.HUGGING_FACE_LLAMA), where)


def _read_gpt2(name: str, where: dict, config: TransformerConfig) -> tuple[Tensor, str]:
    tensor, theirs = _stored(names.translate(name, names.HUGGING_FACE_GPT2), where)
    if ".c_" in theirs and name.endswith("weight"):
        tensor = tensor.T.contiguous()  # GPT-2 stores its projections as (in, out)
    if ".c_attn." in theirs:
        which = ["query", "key", "value"].index(name.split(".")[3])
        tensor = tensor.chunk(3)[which].contiguous()
    return tensor, theirs


def neighbours_to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder a query or key projection's rows from neighbouring RoPE pairs (GGUF) to split halves (Hugging Face).

    Row 2i of a head moves to i, row 2i + 1 to i + d_head/2. weight: (n_heads · d_head, d_in), the same shape out.
    """
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def read_json(path: Path) -> dict:
    """A JSON file's content; a missing or broken file is a sentence."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): fetch it again") from error
