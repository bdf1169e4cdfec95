"""What the sections of the configuration are made of: strict types and the closed model they all extend."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from segzoo.errors import ConfigError, shortened


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


def _fits_a_name(value: str) -> str:
    """Refuse what no file can be called."""
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in value.split("/"))
    if longest > _LONGEST_NAME or len(value) > _LONGEST_PATH:
        raise ValueError(f"{shortened(value)} is too long for a file's name")
    return value


# Each kind of number has the range in which it can work on some machine; what is beyond it is a slip of the pen, and
# would end in memory or in numbers that overflow.
MAX_COUNT = 10**9

_LONGEST_NAME = 200
"""Bytes of a file's name before what we append to it; file systems take 255 in all."""
_LONGEST_PATH = 4000

PositiveInt = Annotated[int, Field(ge=1, le=MAX_COUNT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_COUNT)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e6)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e6)]
Level = Annotated[int, Field(ge=0, le=255)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

BatchSize = Annotated[int, Field(ge=1, le=2**16)]
Workers = Annotated[int, Field(ge=0, le=256)]
Channels = Annotated[int, Field(ge=1, le=4096)]
"""Of a layer."""
AtrousRate = Annotated[int, Field(ge=1, le=256)]
Bands = Annotated[int, Field(ge=1, le=1024)]
"""Of an image: hyperspectral cameras have some hundreds."""

Pixels = Annotated[int, Field(ge=1, le=2**14)]
_Size = tuple[Pixels, Pixels]
Size = Annotated[_Size, BeforeValidator(_square, json_schema_input_type=Pixels | _Size)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]
Range = Annotated[tuple[Ratio, Ratio], BeforeValidator(list_to_tuple)]
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=1e-6, le=1000)]
PerChannel = Annotated[tuple[Mean, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
PositivePerChannel = Annotated[tuple[Deviation, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
ClassWeights = Annotated[tuple[NonNegativeFloat, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]
StoredValue = Annotated[float, Field(ge=-1e12, le=1e12)]
ValueRange = Annotated[tuple[StoredValue, StoredValue], BeforeValidator(list_to_tuple)]
RawValue = Annotated[int, Field(gt=-(2**24), lt=2**24)]
"""Of a mask; a colour as one number has three bytes."""
_RawValues = tuple[RawValue, ...]
RawValues = Annotated[
    _RawValues, BeforeValidator(_one_to_tuple, json_schema_input_type=RawValue | _RawValues), Field(min_length=1)
]
Rgb = Annotated[tuple[Level, Level, Level], BeforeValidator(list_to_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(list_to_tuple), Field(min_length=1)]

FileName = Annotated[str, AfterValidator(_fits_a_name)]
"""A path, or a part of a file's name."""
FilePath = Annotated[FileName, Field(min_length=1)]
"""Never empty, for the empty path is the current folder."""


class Section(BaseModel):
    """A closed, strict, immutable part of the configuration."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigError(
            f"{name}: a configuration stays as it was checked. Make another: segzoo.load_config(config.model_dump(), "
            f'["...{name}=..."]).'
        )

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
