"""One small registry: names to builders."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from segzoo.errors import ConfigError, UnknownNameError, did_you_mean, printable

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, registered once each.

    Args:
        kind: what messages call such a thing ("backbone").

    >>> shapes = Registry[int]("shape")
    >>> shapes.add("square", 4)
    >>> shapes["sqare"]
    Traceback (most recent call last):
        ...
    segzoo.errors.UnknownNameError: Unknown shape 'sqare'. Did you mean square?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T, *, replace: bool = False) -> None:
        """Register an entry.

        Args:
            replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

        Raises:
            ConfigError: the name is taken, or none that a configuration can hold.
        """
        self.check_free(name, replace=replace)
        self._entries[name] = entry

    def check_free(self, name: str, *, replace: bool = False) -> None:
        """See that a name can be registered, with the arguments and errors of `add`."""
        if not name or printable(name) != name:
            raise ConfigError(f"{self.kind} {name!r}: a name is text on one line. Take another.")
        if name in self._entries and not replace:
            raise ConfigError(
                f"{self.kind} {name!r} is registered already. Take another name, or register it with replace=True."
            )

    def register(self, name: str, *, replace: bool = False) -> Callable[[T], T]:
        """The decorator form of `add`."""

        def decorate(entry: T) -> T:
            self.add(name, entry, replace=replace)
            return entry

        return decorate

    def remove(self, name: str) -> None:
        """Forget what is registered under `name`.

        Raises:
            UnknownNameError: nothing is.
        """
        del self._entries[self._known(name)]

    @contextmanager
    def temporarily(self) -> Iterator[None]:
        """What is registered meanwhile is gone afterwards, and what it replaced is back."""
        before = dict(self._entries)
        try:
            yield
        finally:
            for name in self._entries.keys() - before.keys():
                self.remove(name)
            self._entries.update(before)

    def __getitem__(self, name: str) -> T:
        return self._entries[self._known(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def values(self) -> tuple[T, ...]:
        """What is registered, in the order of registration."""
        return tuple(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def _known(self, name: str) -> str:
        if name not in self._entries:
            raise UnknownNameError(f"Unknown {self.kind} {name!r}. {did_you_mean(name, self._entries)}")
        return name
