"""What the sections of the configuration are made of: strict types and the closed model they all extend."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def list_to_tuple(value: object) -> object:
    """YAML has lists only; strict tuples would refuse them."""
    return tuple(value) if isinstance(value, list) else value


def _square(value: object) -> object:
    """One number for a size means a square."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return list_to_tuple(value)


def _one_to_tuple(value: object) -> object:
    """One number where a list may stand."""
    return (value,) if isinstance(value, int) else list_to_tuple(value)


def number_to_text(value: object) -> object:
    """`precision: 32` is an integer to YAML."""
    return str(value) if isinstance(value, int) else value


PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Level = Annotated[int, Field(ge=0, le=255)]
Fraction = Annotated[float, Field(ge=0, le=1)]
_Size = tuple[PositiveInt, PositiveInt]
Size = Annotated[_Size, BeforeValidator(_square, json_schema_input_type=PositiveInt | _Size)]
Range = Annotated[tuple[PositiveFloat, PositiveFloat], BeforeValidator(list_to_tuple)]
PerChannel = Annotated[tuple[float, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
PositivePerChannel = Annotated[tuple[PositiveFloat, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
ClassWeights = Annotated[tuple[NonNegativeFloat, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
ValueRange = Annotated[tuple[FiniteFloat, FiniteFloat], BeforeValidator(list_to_tuple)]
_RawValues = tuple[NonNegativeInt, ...]
RawValues = Annotated[
    _RawValues, BeforeValidator(_one_to_tuple, json_schema_input_type=NonNegativeInt | _RawValues), Field(min_length=1)
]
Rgb = Annotated[tuple[Level, Level, Level], BeforeValidator(list_to_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]


class Section(BaseModel):
    """A closed, strict, immutable part of the configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)
