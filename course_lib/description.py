"""What a file from others may say: the type and the range of each entry that is read here. The rest ends in a sentence.

class Settings(Description):
    hidden_size: Size

Settings.of("config.json", {"hidden_size": "x"})
ValueError: config.json: hidden_size is 'x', it must be a valid integer
"""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

MANY = 2**24  # more rows, columns, tokens or positions than any model has: what is larger is damage, and takes for ever

Size = Annotated[int, Field(ge=1, le=MANY)]
Id = Annotated[int, Field(ge=0, lt=MANY)]
Positive = Annotated[float, Field(gt=0)]


def _listed(value: object) -> object:
    return [] if value is None else value if isinstance(value, list) else [value]


Ids = Annotated[list[Id], BeforeValidator(_listed)]  # one, several or none


class Description(BaseModel):
    """The entries of a file that are read here, as they are written: "3" is no number, and true is none."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, validate_default=True)

    @classmethod
    def of(cls, source: str | Path, entries: Mapping[str, object]) -> Self:
        """The entries of the file `source`; those that are not described are passed over.

        Raises:
            ValueError: one is missing, of another type or out of its range.
        """
        try:
            return cls.model_validate(entries)
        except ValidationError as error:
            wrong = min(error.errors(include_url=False), key=lambda one: one["type"] == "missing")
            raise ValueError(f"{source}{_sentence(wrong)}") from None


def _sentence(error: ErrorDetails) -> str:
    entry, said = ".".join(map(str, error["loc"])), reprlib.repr(error["input"])
    match error["type"]:
        case "missing":
            return f" lacks {entry}"
        case "value_error":
            return f": {error['ctx']['error']}"
        case "extra_forbidden":
            return f": {entry} is {said}, which is not known here"
        case _:
            return f": {entry} is {said}, {error['msg'].replace('Input should', 'it must')}"


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or JSON of something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}). It is not valid JSON: fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}: fetch it again")
    return content
