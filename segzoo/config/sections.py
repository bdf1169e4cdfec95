"""What sections of the configuration are made of: strict types, the closed model, and keys that registered parts bring.

A part of the user's own brings its options with its registration, `register_decoder("mine", options=MineOptions)`, and
they become the keys `model.mine.*`: checked, explained and proposed like those that stand in the schema.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from segzoo.errors import ConfigError, shortened
from segzoo.registry import Registry

T = TypeVar("T")
Options = TypeVar("Options", bound="Section")


def _list_to_tuple(value: object) -> object:
    """A list as a tuple: YAML has lists only, which strict tuples would refuse."""
    return tuple(value) if isinstance(value, list) else value


def _square(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool)
    return (value, value) if number else _list_to_tuple(value)


def _one_to_tuple(value: object) -> object:
    return (value,) if isinstance(value, int) else _list_to_tuple(value)


def number_to_text(value: object) -> object:
    """A number as text: `precision: 32` is an integer to YAML."""
    return str(value) if isinstance(value, int) else value


def _check_file_name(value: str) -> str:
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in value.split("/"))
    if longest > _LONGEST_NAME or len(value) > _LONGEST_PATH:
        raise ValueError(f"{shortened(value)} is too long for a file's name")
    return value


FROM_LIST = BeforeValidator(_list_to_tuple)
ListOf = Annotated[tuple[T, ...], FROM_LIST]
"""A list of any length."""

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
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

BatchSize = Annotated[int, Field(ge=1, le=2**16)]
Workers = Annotated[int, Field(ge=0, le=256)]
Channels = Annotated[int, Field(ge=1, le=4096)]
"""Channels of a layer."""
AtrousRate = Annotated[int, Field(ge=1, le=256)]
Bands = Annotated[int, Field(ge=1, le=1024)]
"""Channels of an image: hyperspectral cameras have some hundreds."""

Pixels = Annotated[int, Field(ge=1, le=2**14)]
_Size = tuple[Pixels, Pixels]
Size = Annotated[_Size, BeforeValidator(_square, json_schema_input_type=Pixels | _Size)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]
Range = Annotated[tuple[Ratio, Ratio], FROM_LIST]
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=1e-6, le=1000)]
PerChannel = Annotated[ListOf[Mean], Field(min_length=1)]
PositivePerChannel = Annotated[ListOf[Deviation], Field(min_length=1)]
ClassWeights = Annotated[ListOf[NonNegativeFloat], Field(min_length=1)]
StoredValue = Annotated[float, Field(ge=-1e12, le=1e12)]
ValueRange = Annotated[tuple[StoredValue, StoredValue], FROM_LIST]
RawValue = Annotated[int, Field(gt=-(2**24), lt=2**24)]
"""A number in a mask; a colour as one number has three bytes."""
_RawValues = tuple[RawValue, ...]
RawValues = Annotated[
    _RawValues, BeforeValidator(_one_to_tuple, json_schema_input_type=RawValue | _RawValues), Field(min_length=1)
]
Rgb = Annotated[tuple[Level, Level, Level], FROM_LIST]
Names = Annotated[ListOf[str], Field(min_length=1)]

FileName = Annotated[str, AfterValidator(_check_file_name)]
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


class PartsSection(Section):
    """A section that names parts of one kind, and holds the options of each under a key of its own."""

    kind: ClassVar[str]
    """What a part is called in messages ("decoder")."""
    place: ClassVar[str]
    """The dotted key of this section."""
    reads: ClassVar[dict[str, frozenset[str]]]
    """Part -> the keys of this section that only some parts read, and this one does. A part that said nothing of them
    when it was registered is not in here, for it may read any."""
    added: ClassVar[set[str]]
    """The keys that do not stand in the class, but came with a registration."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.reads, cls.added = {}, set()

    @property
    @abstractmethod
    def chosen(self) -> Sequence[str]:
        """The parts that this section asks for."""

    @classmethod
    def add_part(cls, name: str, options: type[Section] | None, reads: Iterable[str] | None) -> None:
        """Note which keys a part reads, and make the section of its own where the class has none.

        Args:
            name: what the part is registered as, and the key of its options.
            options: a class where each option has a default; None for a part without options of its own.
            reads: further keys of this section that only some parts read, and this one does; None without options of
                its own says that it may read any.

        Raises:
            ConfigError: options of another type or without defaults, or the key is another one's.
        """
        if options is not None:
            default = _defaults(options, f"{cls.kind} {name!r}")
            standing = cls.model_fields.get(name)
            if standing is None or (name in cls.added and standing.annotation is not options):
                cls.added.add(name)
                meaning = f"Options of {cls.kind} {name}."
                cls.model_fields[name] = FieldInfo(annotation=options, default=default, description=meaning)
                _build_anew(cls)
            elif standing.annotation is not options:
                raise ConfigError(f"{cls.kind} {name!r}: {cls.place}.{name} is a key already. Take another name.")
        cls.reads.pop(name, None)
        if options is not None or reads is not None:
            cls.reads[name] = frozenset((*(reads or ()), *([name] if options else ())))

    @classmethod
    def remove_part(cls, name: str) -> None:
        """Forget a part, and its section where that came with it."""
        cls.reads.pop(name, None)
        if name in cls.added:
            cls.added.remove(name)
            del cls.model_fields[name]
            _build_anew(cls)

    def part(self, name: str, options: type[Options]) -> Options:
        """The options of a part; their defaults in a section that was made before the part was registered."""
        found = getattr(self, name, None)
        return found if isinstance(found, options) else options()

    def unread_options(self) -> Iterator[str]:
        """A line, if options were changed that none of the chosen parts reads."""
        if any(name not in self.reads for name in self.chosen):
            return
        own = {key for name in self.chosen for key in self.reads[name]}
        others = {key for keys in self.reads.values() for key in keys} - own
        fields = type(self).model_fields
        unread = sorted(key for key in others if getattr(self, key, fields[key].default) != fields[key].default)
        if unread:
            readers = sorted(name for name, keys in self.reads.items() if not keys.isdisjoint(unread))
            yield (
                f"{self.kind} {', '.join(self.chosen)} does not read "
                f"{', '.join(f'{self.place}.{key}' for key in unread)}. Leave that out, or take a {self.kind} that "
                f"does: {', '.join(readers)}."
            )

    @model_validator(mode="after")
    def _only_options_that_are_read(self) -> "PartsSection":
        """Options of another part would do nothing. At their defaults they may stand, as in a dumped configuration."""
        for problem in self.unread_options():
            raise ValueError(problem)
        return self

    @model_serializer(mode="wrap")
    def _without_idle_parts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What came with a part that is not chosen stays out, or a checkpoint would need a plug-in it never used."""
        if not isinstance(self, PartsSection):  # something was put into its place unchecked
            return dump(self)
        read = {key for name in self.chosen for key in self.reads.get(name, ())}
        return {key: value for key, value in dump(self).items() if key not in self.added or key in read}


class PartRegistry(Registry[T]):
    """Parts by name, whose options are keys of the section of the configuration that names them."""

    def __init__(self, section: type[PartsSection]) -> None:
        super().__init__(section.kind)
        self.section = section

    def add_part(
        self, name: str, entry: T, options: type[Section] | None, reads: Iterable[str] | None, *, replace: bool = False
    ) -> None:
        """Register a part and its options, with the arguments and errors of `add` and `PartsSection.add_part`."""
        self.check_free(name, replace=replace)
        self.section.add_part(name, options, reads)
        self.add(name, entry, replace=replace)

    def remove(self, name: str) -> None:
        """Forget a part and its options."""
        super().remove(name)
        self.section.remove_part(name)


def _defaults(options: type[Section], part: str) -> Section:
    """The options of a part, all at their defaults."""
    if not (isinstance(options, type) and issubclass(options, Section)):
        raise ConfigError(f"{part}: its options have to be a class that extends segzoo.Section.")
    try:
        return options()
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, detail["loc"])) for detail in error.errors())
        raise ConfigError(f"{part}: each of its options needs a default, and these have none: {missing}.") from None


def _build_anew(section: type[Section]) -> None:
    """Have a section, and those that hold it, check by the fields that it has now."""
    section.model_rebuild(force=True)
    for parent in _below(Section):
        for field in parent.model_fields.values():
            if field.annotation is section:
                if isinstance(field.default, section):
                    field.default = section()
                _build_anew(parent)


def _below(section: type[Section]) -> Iterator[type[Section]]:
    for child in section.__subclasses__():
        yield child
        yield from _below(child)
