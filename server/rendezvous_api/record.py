"""Value classes for what is loaded into other people's processes.

``dataclasses`` would do, but it brings ``inspect`` along (7 ms) and takes over half a millisecond a
class; its frozen constructors take a microsecond more on every call. A record is frozen for the
type checkers; at run time nobody guards it.
"""

from operator import attrgetter
from typing import Any, TypeVar, cast, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """``cls`` with its annotations as slots, in the manner of ``dataclass(frozen, slots)``.

    A default is shared by all instances, so it must be a value that nobody changes.
    """
    names = tuple(cls.__annotations__)
    space = {key: value for key, value in vars(cls).items() if key not in _INSTANCE_ONLY}
    defaults = {name: space.pop(name) for name in names if name in space}
    space |= {
        "__slots__": names,
        "__match_args__": names,
        "__init__": _constructor(names, defaults, cls.__qualname__),
        "__eq__": _equal,
        "__hash__": _hash,
        "__repr__": _repr,
        "_fields": _getter(names),
    }
    return cast(type[T], type(cls.__name__, cls.__bases__, space))


_INSTANCE_ONLY = ("__dict__", "__weakref__")


def _constructor(names: tuple[str, ...], defaults: dict[str, Any], owner: str) -> Any:
    parameters = [f"{name}=_d[{name!r}]" if name in defaults else name for name in names]
    body = [f"\n self.{name} = {name}" for name in names] or ["\n pass"]
    space: dict[str, Any] = {"_d": defaults}
    exec(f"def __init__(self, {', '.join(parameters)}):{''.join(body)}", space)
    space["__init__"].__qualname__ = f"{owner}.__init__"
    return space["__init__"]


def _getter(names: tuple[str, ...]) -> Any:
    """A function that gives a record's fields in a form that compares: mostly a tuple."""
    return attrgetter(*names) if names else attrgetter("__class__")


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    fields = self.__class__._fields
    return fields(self) == fields(other)


def _hash(self: Any) -> int:
    return hash((self.__class__, self.__class__._fields(self)))


def _repr(self: Any) -> str:
    inside = ", ".join([f"{name}={getattr(self, name)!r}" for name in self.__match_args__])
    return f"{self.__class__.__qualname__}({inside})"
