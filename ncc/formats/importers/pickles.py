"""Pickles of a list of classes, read without Python's unpickling: nothing in a file can run.

An interpreter of the opcodes that data is made of. Objects become records of their attributes;
a class that is not on the list is refused by its name, before anything is made of it.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Collection, Iterable, Sized
from typing import Any, Final, NoReturn

import numpy as np

from ncc.formats.importers.foreign import Foreign

MOST: Final = 600_000  # opcodes of a pickle, and items that these copy: about a second
LARGEST_KEY: Final = 2**53  # of a dict; hashes of larger integers collide by design of a file
DTYPE: Final = ("numpy.dtype",)
SCALAR: Final = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
# What is called with a list or nothing, and may stand in any pickle of data.
CONTAINERS: Final = {f"{module}.{name}": kind for module in ("builtins", "__builtin__")
                     for name, kind in (("set", list), ("list", list), ("dict", dict),
                                        ("tuple", tuple), ("float", float), ("int", int))}
NUMBERS: Final = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})


class Class:
    """A class on the list, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Record:
    """An object of a class on the list: `state` are its attributes, and so are they here."""

    def __init__(self, of: str, *arguments: Any) -> None:
        self.of, self.arguments = of, arguments
        self.state: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.state[name]
        except KeyError:
            raise AttributeError(name) from None


class _Mark:
    """Where the items of the next tuple, list or dict begin."""


_MARK = _Mark()


def read(file: Foreign, classes: Collection[str]) -> Any:
    """The object in a pickle: numbers, strings, tuples, lists, dicts, and records of `classes`,
    which are names such as "neat.genome.DefaultGenome"; a set becomes a list, a scalar of numpy's a
    number.

    NccError E801 for what is no pickle, or has something behind it; E818 for another class, or an
    opcode that may do more than make data; E819 for more than MOST opcodes.
    """
    machine = _Machine(file, classes)
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(file.data)):
            if count > MOST:
                raise file.fault("E819", f"a pickle of more than {MOST} operations")
            machine.position = position or 0
            if opcode.name == "STOP":
                if machine.position + 1 != len(file.data):
                    raise file.fault("E801", "bytes behind the end of the pickle",
                                     f"byte {machine.position + 1}")
                return machine.pop()
            machine.run(opcode.name, argument)
    except (ValueError, IndexError, OverflowError, EOFError, TypeError, struct.error) as error:
        raise file.fault("E801", f"this is no pickle: {str(error)[:80]}",
                         f"byte {machine.position}") from None
    raise file.fault("E801", "a pickle without an end")


class _Machine:
    """The stack and the memo of a pickle under way."""

    def __init__(self, file: Foreign, classes: Collection[str]) -> None:
        self.file, self.classes = file, classes
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def copies(self, items: Sized) -> None:
        """One opcode copies so many items, which another one may ask for again and again."""
        self.copied += len(items)
        if self.copied > MOST:
            raise self.file.fault("E819", f"a pickle that copies more than {MOST} items")

    def bad(self, message: str) -> NoReturn:
        raise self.file.fault("E801", message, f"byte {self.position}")

    def refuse(self, what: str) -> NoReturn:
        raise self.file.fault("E818", f"the pickle asks for {what}", f"byte {self.position}",
                              note="ncc reads pickles of these classes: "
                              + ", ".join(sorted(self.classes)))

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            self.bad("a pickle that takes more than it has")
        return self.stack.pop()

    def items(self) -> list[Any]:
        """What stands above the last mark, which goes."""
        found = []
        while self.stack and self.stack[-1] is not _MARK:
            found.append(self.stack.pop())
        if not self.stack:
            self.bad("a pickle without the mark that it needs")
        self.stack.pop()
        return found[::-1]

    def run(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in _LITERALS:
            self.stack.append(argument if name not in _CONSTANTS else _CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            top = self.pop()
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = top
            self.stack.append(top)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                self.bad("a pickle that reads what it has not kept")
            self.stack.append(self.memo[argument])
        elif name in _BUILD:
            _BUILD[name](self)
        elif name == "GLOBAL":
            self.stack.append(self.named(*str(argument).split(" ", 1)))
        elif name not in ("PROTO", "FRAME"):
            self.refuse(f"the operation {name}")

    def named(self, module: str, name: str = "") -> Class:
        """A class on the list; E818 for another."""
        whole = f"{module}.{name}"
        if whole not in self.classes and whole not in (*DTYPE, *SCALAR, *CONTAINERS):
            self.refuse(whole if len(whole) < 200 else whole[:200] + "...")
        return Class(whole)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            self.bad("a class whose name is no text")
        self.stack.append(self.named(module, name))

    def instance(self, arguments: Any, of: Any) -> Any:
        """What a class on the list makes of arguments, which is never a call of it."""
        if not isinstance(of, Class):
            self.refuse(f"a call of {type(of).__name__}")
        if not isinstance(arguments, tuple):
            self.bad("arguments that are no tuple")
        if of.name in SCALAR:
            return self.scalar(*arguments) if len(arguments) == 2 else self.bad("a scalar of what")
        self.copies(arguments)
        if of.name in CONTAINERS:
            return self.container(CONTAINERS[of.name], arguments)
        return Record(of.name, *arguments)

    def container(self, kind: type, arguments: tuple[Any, ...]) -> Any:
        if not arguments:
            return kind()
        (value,) = arguments if len(arguments) == 1 else (None,)
        if kind in (list, tuple) and isinstance(value, list | tuple):
            self.copies(value)
            return kind(value)
        if kind in (float, int) and isinstance(value, float | int):
            return kind(value)
        self.bad(f"a {kind.__name__} of something else")

    def scalar(self, dtype: Any, data: Any) -> float | int | bool:
        """A number as numpy pickles it."""
        code = dtype.arguments[0] if isinstance(dtype, Record) and dtype.arguments else None
        if code not in NUMBERS or not isinstance(data, bytes):
            raise self.file.fault("E817", "a scalar of numpy's that is no real number",
                                  f"byte {self.position}")
        order = ">" if dtype.state.get("order") == ">" else "<"
        kind = np.dtype(order + code)
        if len(data) != kind.itemsize:
            self.bad(f"{len(data)} bytes of a number of {kind.itemsize}")
        number: float | int | bool = np.frombuffer(data, kind)[0].item()
        return number

    def reduce(self) -> None:
        arguments = self.pop()
        self.stack.append(self.instance(arguments, self.pop()))

    def new_with_names(self) -> None:
        if self.pop() != {}:
            self.bad("an object made of named arguments")
        self.reduce()

    def build(self) -> None:
        """Give a record its attributes; a dtype its byte order."""
        state = self.pop()
        if not self.stack or not isinstance(self.stack[-1], Record):
            self.refuse("attributes of something that is no object")
        record = self.stack[-1]
        if record.of in DTYPE and isinstance(state, tuple) and len(state) > 1:
            record.state["order"] = state[1] if isinstance(state[1], str) else ""
        elif isinstance(state, dict):
            self.copies(state)
            if not all(isinstance(key, str) for key in state):
                self.bad("attributes that are not named")
            record.state.update(state)
        else:
            self.bad("attributes that are not named")

    def extend(self, values: list[Any]) -> None:
        held = self.stack[-1] if self.stack else None
        if type(held) is not list:
            self.bad("items of something that is no list")
        held.extend(values)

    def enter(self, items: list[Any]) -> None:
        held = self.stack[-1] if self.stack else None
        if type(held) is not dict:
            self.bad("entries of something that is no dict")
        if len(items) % 2:
            self.bad("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _plain(key, 2):
                self.bad("a key of a dict that is no number, text, or pair of those")
            held[key] = value

    def pair(self) -> list[Any]:
        value = self.pop()
        return [self.pop(), value]

    def some(self, count: int) -> tuple[Any, ...]:
        return tuple([self.pop() for _ in range(count)][::-1])

    def made(self, container: Any, items: Iterable[Any] = ()) -> None:
        self.stack.append(container)
        if isinstance(container, dict):
            self.enter(list(items))


def _plain(key: Any, depth: int) -> bool:
    """Whether a key is cheap to hash, and to compare: its size is bounded, and no crowd of such
    keys has one hash."""
    if isinstance(key, tuple):
        return depth > 1 and len(key) <= 4 and all(_plain(part, depth - 1) for part in key)
    return isinstance(key, str) or (isinstance(key, int) and abs(key) <= LARGEST_KEY)


_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS: Final = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", *_CONSTANTS})
_BUILD: Final[dict[str, Callable[[_Machine], Any]]] = {
    "MARK": lambda m: m.stack.append(_MARK),
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": lambda m: m.items(),
    "DUP": lambda m: m.stack.append(m.stack[-1]),
    "EMPTY_LIST": lambda m: m.made([]),
    "EMPTY_DICT": lambda m: m.made({}),
    "EMPTY_TUPLE": lambda m: m.made(()),
    "EMPTY_SET": lambda m: m.made([]),
    "FROZENSET": lambda m: m.made(m.items()),
    "LIST": lambda m: m.made(m.items()),
    "TUPLE": lambda m: m.made(tuple(m.items())),
    "TUPLE1": lambda m: m.made(m.some(1)),
    "TUPLE2": lambda m: m.made(m.some(2)),
    "TUPLE3": lambda m: m.made(m.some(3)),
    "DICT": lambda m: m.made({}, m.items()),
    "APPEND": lambda m: m.extend([m.pop()]),
    "APPENDS": lambda m: m.extend(m.items()),
    "ADDITEMS": lambda m: m.extend(m.items()),
    "SETITEM": lambda m: m.enter(m.pair()),
    "SETITEMS": lambda m: m.enter(m.items()),
    "STACK_GLOBAL": lambda m: m.stack_global(),
    "REDUCE": lambda m: m.reduce(),
    "NEWOBJ": lambda m: m.reduce(),
    "NEWOBJ_EX": lambda m: m.new_with_names(),
    "BUILD": lambda m: m.build(),
}
