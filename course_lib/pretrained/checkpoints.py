"""Published weights → our Transformer: from a GGUF file, or from a folder in Hugging Face's layout."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from course_lib.config import TransformerConfig
from course_lib.description import Description, read_json
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
    """Read config.json and the safetensors into a float32 Transformer. Nothing in the folder is executed.

    What is stored counts: a head that differs from the embedding is used, also where config.json promises that they are
    one, as `transformers` does.

    Raises:
        FileNotFoundError: config.json or the safetensors are missing.
        ValueError: the model is of a family that is not read here, or the weights do not fit config.json or the index.
    """
    folder = Path(folder)
    settings = read_json(folder / "config.json")
    config = names.config_from_hugging_face(settings)

    with ExitStack() as stack:
        where = {}
        for path, promised in _weight_files(folder).items():
            try:
                opened = stack.enter_context(safe_open(path, framework="pt"))
            except SafetensorError as error:
                raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch it again") from error
            held = set(opened.keys())
            if lacking := promised - held:
                raise ValueError(f"{INDEX} promises {min(lacking)} in {path.name}, which lacks it: fetch both again")
            if twice := held & where.keys():
                raise ValueError(f"{path.name} holds {min(twice)}, and so does another file: remove the wrong one")
            where |= dict.fromkeys(held, opened)
        read = _read_gpt2 if settings["model_type"] == "gpt2" else _read_llama
        if config.tie_embeddings and HEAD in where:
            embedding, _ = read("token_embedding.weight", where, config)
            head, _ = _stored(HEAD, where)
            config = replace(config, tie_embeddings=torch.equal(head, embedding))
        return _fill(config, lambda name: read(name, where, config), set(where))


INDEX = "model.safetensors.index.json"


def _in_the_folder(file: str) -> str:
    if not re.fullmatch(r"[^/\\:]+\.safetensors", file):
        raise ValueError(f"{file!r} must be the name of a .safetensors file in the folder itself")
    return file


class _Index(Description):
    """Which file each tensor is in. The names come from strangers: none leads out of the folder."""

    weight_map: dict[str, Annotated[str, AfterValidator(_in_the_folder)]]


def _weight_files(folder: Path) -> dict[Path, set[str]]:
    """The files to read, and the tensors that the index promises in each.

    They are the one file, or those that the index names, or all that are there if there is neither.
    """
    if (folder / "model.safetensors").is_file():
        return {folder / "model.safetensors": set()}
    if (folder / INDEX).is_file():
        promised: dict[Path, set[str]] = {}
        for name, file in _Index.of(INDEX, read_json(folder / INDEX)).weight_map.items():
            promised.setdefault(folder / file, set()).add(name)
        if absent := [path.name for path in promised if not path.is_file()]:
            raise FileNotFoundError(f"{INDEX} names {', '.join(absent)}, which {folder} does not hold: fetch it")
        return promised
    if files := [path for path in sorted(folder.glob("*.safetensors")) if path.is_file()]:
        return {path: set() for path in files}
    raise FileNotFoundError(
        f"{folder} holds no .safetensors file (pickled .bin weights are not read: they can run code)"
    )


# Kept in old checkpoints though they are computed, not learned; and the head, where the embedding serves as one.
NOT_LEARNED = re.compile(r"attn\.(masked_)?bias$|rotary_emb\.inv_freq$")
HEAD = "lm_head.weight"


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
    left_over -= {HEAD} if config.tie_embeddings else set()
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
            tensor = where[name].get_tensor(name)
            if not tensor.is_floating_point():
                raise ValueError(f"{name} is stored as {tensor.dtype}, a form of quantization that is not read here")
            return tensor.float(), name
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
