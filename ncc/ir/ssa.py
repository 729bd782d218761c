"""The ssa level: functions of scalar ops over buffers.

An op is `(opcode, reads, imm)`. A value is the number of the op that makes it, and an op reads only
values above it, in its own or an enclosing loop: one comparison proves SSA form. The one control
form is the counted loop with carried values; in the flat list of ops it is

    for  carry*  ...body...  yield  result*

A `lanes` loop says that its iterations are independent and may run side by side; a `private` buffer
is one that every iteration of a lanes loop has to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import OPCODES, OPS, SUMS, Opcode, takes
from ncc.scalar.sum_order import ROUND, by_lanes, one_by_one, term

Op = tuple[str, tuple[int, ...], Any]
# What a pure function is made of; it applies no other.
PURE = frozenset(o.name for o in OPS.values() if o.effect in ("", "control")) - {"apply"}
SQUARE = 16  # columns that change places with samples at once: a vector's lanes
DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64}


def dtype_name(given: Any) -> str:
    """"f32" or "f64" of either, of what numpy calls them (`float64`, `np.float64`, `np.dtype("d")`)
    and of torch's. NccError E603 (status 2) where it is another."""
    if isinstance(given, str) and given in DTYPES:
        return given
    try:
        # Of None numpy makes one, too; and the word `float` is 32 bits in C and 64 in numpy.
        real = None if given is None or str(given) == "float" else np.dtype(
            str(given).removeprefix("torch.") if type(given).__module__ == "torch" else given)
    except (TypeError, ValueError):
        real = None
    for name, known in DTYPES.items():
        if real == known and real is not None:
            return name
    shown = given.__name__ if isinstance(given, type) else str(given)
    raise NccError("E603", f"no dtype {shown[:40]}", help="f32 (float32) or f64 (float64)",
                   status=2)

# Where op k of a function stands in its text, by name; None: the head of a function or a table.
Place = Callable[[str, int | None], tuple[Source, Span]]
# `value` is one real, passed by value; all `work` and `private` buffers are one argument in C.
KINDS = ("in", "out", "inout", "value", "work", "private")


class Buffer(NamedTuple):
    """`size` in elements (of one sample, where the function takes a count of samples)."""

    name: str
    kind: str
    size: int


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array: `type` is `f`, `i` or `w`, as in the opcode table."""

    name: str
    type: str
    values: NDArray[Any]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Table)
            and (self.name, self.type) == (other.name, other.type)
            and self.values.tobytes() == other.values.tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.name, self.type))


@dataclass(frozen=True)
class Func:
    """A function; `counted` where it takes a number of samples first; `exported` or internal;
    `pure` where it makes a real of a real, has no buffers, and is applied, not called."""

    name: str
    buffers: tuple[Buffer, ...]
    ops: list[Op]
    counted: bool = False
    exported: bool = True
    pure: bool = False

    def with_ops(self, ops: list[Op]) -> Func:
        return replace(self, ops=ops)

    def __str__(self) -> str:
        return _print_func(self)


@dataclass(frozen=True)
class Module:
    """The ssa level: functions that share constant tables, one dtype and one numerics."""

    name: str
    dtype: str
    numerics: str
    funcs: tuple[Func, ...]
    tables: tuple[Table, ...] = ()

    @property
    def fused(self) -> bool:
        return self.numerics != "strict"

    def func(self, name: str) -> Func:
        for func in self.funcs:
            if func.name == name:
                return func
        raise KeyError(name)

    def with_(self, **changes: Any) -> Module:
        return replace(self, **changes)

    def join(self, other: Module) -> Module:
        """This module and the functions and tables of another of the same kind; tables that hold
        the same are one, and of two that share a name the other's gets a new one."""
        if not other.funcs:
            return self
        known = {t.name: t for t in self.tables}
        held = {(t.type, t.values.tobytes()): t.name for t in self.tables}
        renamed = {}
        for t in other.tables:
            name = held.get((t.type, t.values.tobytes()))
            if name is None:
                name = t.name if t.name not in known else f"{t.name}_{len(known)}"
                known[name] = Table(name, t.type, t.values)
            renamed[t.name] = name
        funcs = [f.with_ops([(o, r, (renamed.get(i[0], i[0]), i[1]) if o == "load" else
                              renamed[i] if o == "lookup" else i) for o, r, i in f.ops])
                 for f in other.funcs]
        return self.with_(funcs=(*self.funcs, *funcs), tables=tuple(known.values()))

    def __str__(self) -> str:
        """The text that `grammar/ssa.lark` reads back to an identical module."""
        parts = [f"module {self.name} {self.dtype} {self.numerics}\n"]
        for t in self.tables:
            shown = " ".join(map(repr if t.type == "f" else str, t.values.tolist()))
            parts.append(f"table {t.name} {t.type}: {shown}\n")
        parts += [str(f) for f in self.funcs]
        return "\n".join(parts)

    def verify(self, place: Place | None = None) -> None:
        """Raise an NccError (status 3; status 1 and its place, where `place` is given) unless

        - function and table names are unique; buffer names are unique in a function and differ
          from the tables';
        - every opcode is known and has as many reads as its row says, each of the right type;
        - an op reads only values made above it, in its own or an enclosing loop;
        - `carry` stands directly after its `for` (or another carry of it), `result` directly after
          its `yield`, which names as many values as there are carries, of their types;
        - loops are closed; lanes loops do not nest and carry nothing;
        - loads and stores name a buffer of the function (a table only to load), a constant index
          lies inside it, and nothing is stored to an `in` buffer or loaded from an `out` one;
        - a private buffer is used only inside a lanes loop;
        - a lanes loop that accumulates has lanes for whole rounds, or one;
        - a lookup names a table of words;
        - a call names an internal function whose buffers this one has, and which calls nothing;
        - a call_at names an exported function that is not counted, likewise, outside of lanes;
        - an apply names a pure function; that is internal, has no buffers, and consists of one
          `argument`, arithmetic, constants, lookups, plain loops, and a `return` at its end.
        """
        _Verifier(self, place).check()

    def run(self, name: str, buffers: Mapping[str, NDArray[Any]], n: int | None = None) -> None:
        """Interpret function `name` over `buffers`, which are written in place.

        Without `n`, an axis after the first is a batch: a buffer of shape (size, B) makes every
        value of its B samples at once. `n` is the count of samples of a counted function, whose
        buffers are flat.
        """
        evaluate = Numpy(self.dtype, self.fused)
        # Indices are computed as wide as pointers, whatever their table's cells.
        tables = {t.name: t.values.astype(np.int64) if t.type == "i" else t.values
                  for t in self.tables}
        _run(self, self.func(name), dict(buffers), tables, n, evaluate)


def types(func: Func, tables: Mapping[str, str]) -> list[str]:
    """The type letter of every op's value, '' where it makes none; `tables` are their types."""
    out: list[str] = []
    carries: list[list[int]] = []
    done: list[int] = []
    for at, (opcode, reads, imm) in enumerate(func.ops):
        result = OPS[opcode].result
        if result == "*":
            result = out[reads[-1]]
        elif result == "?":
            result = tables.get(imm[0], "f") if opcode == "load" else out[done[imm]]
        out.append(result)
        if opcode == "for":
            carries.append([])
        elif opcode == "carry":
            carries[-1].append(at)
        elif opcode == "yield":
            done = carries.pop()
        elif opcode == "apply":
            done = [at] * len(reads)
    return out


def layout(func: Func, elements: int = 16) -> tuple[dict[str, int], int]:
    """Where in the caller's one `work` each work and private buffer begins, and the size of it all,
    in elements; each begins at a multiple of `elements`, a private one has a cell a lane."""
    lanes = max([op[2] for op in func.ops if op[0] == "for"] or [0])
    offsets: dict[str, int] = {}
    end = 0
    for b in func.buffers:
        if b.kind in ("work", "private"):
            at = -(-end // elements) * elements
            offsets[b.name] = at
            end = at + b.size * (max(1, lanes) if b.kind == "private" else 1)
    return offsets, end


# ---- text


def _print_func(func: Func) -> str:
    buffers = ", ".join(f"{b.name} {b.kind} {b.size}" for b in func.buffers)
    head = "func" if func.exported else "pure" if func.pure else "internal"
    count = "count, " if func.counted and buffers else "count" if func.counted else ""
    lines = [f"{head} {func.name}({count}{buffers}) {{"]
    depth = 1
    for at, (opcode, reads, imm) in enumerate(func.ops):
        if opcode == "yield":
            depth -= 1
        lines.append("  " * depth + print_op(at, opcode, reads, imm))
        if opcode == "for":
            depth += 1
    lines.append("}\n")
    return "\n".join(lines)


def print_op(at: int, opcode: str, reads: tuple[int, ...], imm: Any) -> str:
    """The line of an op; one that is in no table is shown like arithmetic."""
    row = OPS.get(opcode, Opcode(opcode, "...", "?"))
    values = [f"%{r}" for r in reads]
    if row.imm == "lanes":
        lanes = f" lanes {imm}" if imm else ""
        said = f"{opcode} {values[0]}..{values[1]}{lanes} {{"
    elif row.imm == "call":
        said = f"{opcode} {imm[0]} " + ", ".join(
            [f"{name}[{value}]" for name, value in zip(imm[1], values, strict=True)])
    elif row.imm == "place":
        values[row.values :] = [_place(imm, reads[row.values :])]
        said = f"{opcode} {', '.join(values)}"
    else:
        shown = "" if imm is None else f" {imm!r}" if row.imm == "real" else f" {imm}"
        said = f"{opcode}{shown} {', '.join(values)}".rstrip()
    if opcode == "yield":
        return "} " + said
    return f"%{at} = {said}" if row.result else said


def _shown(at: int, op: Op) -> str:
    """As print_op, of an op that may be ill-formed."""
    try:
        return print_op(at, *op)
    except (TypeError, ValueError, IndexError):
        return f"%{at} = {op!r}"


def _place(imm: tuple[str, int], index: tuple[int, ...]) -> str:
    name, offset = imm
    if not index:
        return f"{name}[{offset}]"
    return f"{name}[%{index[0]}{f' + {offset}' if offset else ''}]"


# ---- building


@dataclass
class Builder:
    """Collects ops; also the Emitter that expressions and sequences are replayed on."""

    dtype: str
    fused: bool
    ops: list[Op] = field(default_factory=list)
    tables: dict[tuple[int, ...], Table] = field(default_factory=dict)

    def emit(self, opcode: str, reads: tuple[int, ...] = (), imm: Any = None) -> int:
        self.ops.append((opcode, reads, imm))
        return len(self.ops) - 1

    def op(self, name: str, *reads: int) -> int:
        self.ops.append((name, reads, None))
        return len(self.ops) - 1

    def const(self, value: float) -> int:
        """A real, rounded to the dtype."""
        return self.emit("const", (), float(DTYPES[self.dtype](value)))

    def word(self, value: int) -> int:
        bits = 32 if self.dtype == "f32" else 64
        return self.emit("word", (), (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1))

    def index(self, value: int) -> int:
        return self.emit("index", (), value)

    def lookup(self, values: tuple[int, ...], index: int) -> int:
        if values not in self.tables:
            word = np.int32 if self.dtype == "f32" else np.int64
            bits = 32 if self.dtype == "f32" else 64
            array = np.array([v % (1 << bits) for v in values], dtype=f"u{bits // 8}").view(word)
            self.tables[values] = Table(f"words_{len(self.tables)}", "w", array)
        return self.emit("lookup", (index,), self.tables[values].name)

    def rarely(self, condition: int, usual: tuple[int, ...],
               other: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
        """The values of `other` where the condition holds, else the `usual` ones; the others are
        only computed where it holds in any lane."""
        _, *held = self.loop(self.index(0), self.op("any", condition), usual)
        chosen = [self.op("select", condition, a, b)
                  for a, b in zip(other(), held, strict=True)]
        return tuple(self.close(*chosen))

    def load(self, buffer: str, offset: int, index: int | None = None) -> int:
        return self.emit("load", () if index is None else (index,), (buffer, offset))

    def store(self, value: int, buffer: str, offset: int, index: int | None = None) -> None:
        self.emit("store", (value,) if index is None else (value, index), (buffer, offset))

    def accumulate(self, a: int, b: int, buffer: str, offset: int, index: int | None = None,
                   in_order: bool = False) -> None:
        self.emit("accrue" if in_order else "accumulate",
                  (a, b) if index is None else (a, b, index), (buffer, offset))

    def columns(self, width: int, lanes: bool) -> Iterator[tuple[int, int]]:
        """A loop over the columns of rows of samples (x, y, their gradients): the first column of a
        round, and how many its body takes. In `lanes` that is a square of some samples and as
        many columns, which change places at once; the last starts early rather than end late."""
        count = SQUARE if lanes and width >= SQUARE else 1
        q = self.loop(self.index(0), self.index(-(-width // count)))[0]
        first = self.op("imul", q, self.index(count))
        if width % count:
            first = self.op("imin", first, self.index(width - count))
        yield first, count

    def loop(self, lo: int, hi: int, carries: Iterable[int] = (), lanes: int = 0) -> list[int]:
        """Open a loop: [index, carry, ...]."""
        first = self.emit("for", (lo, hi), lanes)
        return [first] + [self.emit("carry", (init,)) for init in carries]

    def close(self, *values: int) -> list[int]:
        """Close the innermost loop with the carries' next values: their last values."""
        self.emit("yield", values)
        return [self.emit("result", (), k) for k in range(len(values))]


# ---- verification


class _Verifier:
    def __init__(self, module: Module, place: Place | None) -> None:
        self.module = module
        self.place = place
        self.tables = {t.name: t for t in module.tables}
        self.funcs = {f.name: f for f in module.funcs}

    def check(self) -> None:
        m = self.module
        seen: dict[str, None] = {}
        for name in [t.name for t in m.tables] + [f.name for f in m.funcs]:
            if name in seen:
                raise self.fault(name, None, f"the name {name} is used twice")
            seen[name] = None
        if m.dtype not in DTYPES or m.numerics not in ("strict", "fused", "fast"):
            raise self.fault("", None, f"unknown dtype or numerics: {m.dtype} {m.numerics}")
        for func in m.funcs:
            self.func(func)

    def fault(self, func: Func | str, at: int | None, message: str) -> NccError:
        """The fault at an op (None: at the head) of a function or, by its name, of anything."""
        note = ""
        if isinstance(func, Func) and at is not None:
            rows = range(max(0, at - 3), min(len(func.ops), at + 4))
            shown = [_shown(r, func.ops[r]) + ("   <-- here" if r == at else "") for r in rows]
            note = f"in {func.name}: " + " ; ".join(shown)
        if self.place is None:
            return NccError("E300", f"ssa: {message}", note=note, status=3)
        source, span = self.place(func.name if isinstance(func, Func) else func, at)
        return NccError("E300", message, source, span)

    def func(self, func: Func) -> None:
        buffers = {b.name: b for b in func.buffers}
        if len(buffers) != len(func.buffers) or any(b in self.tables for b in buffers):
            raise self.fault(func, None, "a buffer's name is used twice")
        for b in func.buffers:
            if b.kind not in KINDS or b.size < 0:
                raise self.fault(func, None, f"bad buffer {b}")
        if func.pure and (func.buffers or func.counted or func.exported or not func.ops
                          or func.ops[-1][0] != "return"):
            raise self.fault(func, None, "a pure function has no buffers, and returns at its end")
        typed: list[str] = []
        visible: list[bool] = []
        loops: list[tuple[int, list[int]]] = []  # (the for's number, its carries)
        lanes = -1  # the depth of the lanes loop
        closed: tuple[int, list[int]] | None = None  # (the yield's number, the loop's carries)
        for at, (opcode, reads, imm) in enumerate(func.ops):
            result = ""
            for r in reads:
                if not 0 <= r < at or not visible[r]:
                    raise self.fault(func, at, f"%{r} is not a value that %{at} can read")
            got = "".join([typed[r] for r in reads])
            row = OPS.get(opcode)
            if func.pure and opcode not in PURE:
                raise self.fault(func, at, f"{opcode} in a pure function")
            if row is None:
                raise self.fault(func, at, f"unknown opcode {opcode}")
            if not takes(opcode, got) or not self.fits(row.imm, imm, buffers):
                raise self.fault(func, at, f"{opcode} reads {row.reads}, not {got}"
                                 if opcode in OPCODES else f"{opcode} is ill-formed")
            result = row.result if row.result != "*" else got[-1]
            if opcode in OPCODES:
                pass
            elif row.imm == "place":
                if opcode in SUMS and lanes >= 0:
                    width = func.ops[loops[lanes][0]][2]
                    if width > 1 and width % ROUND[self.module.dtype]:
                        raise self.fault(func, at, f"{width} lanes are no whole rounds of sums")
                kind = self.access(func, at, row, reads, imm, buffers, lanes >= 0)
                result = kind if row.result else ""
            elif opcode == "count":
                self.expect(func, at, func.counted)
            elif opcode == "for":
                if imm:
                    if lanes >= 0:
                        raise self.fault(func, at, "lanes loops do not nest")
                    lanes = len(loops)
                loops.append((at, []))
            elif opcode == "carry":
                if not loops or loops[-1][0] + len(loops[-1][1]) + 1 != at:
                    raise self.fault(func, at, "a carry stands directly after its for")
                if lanes == len(loops) - 1:
                    raise self.fault(func, at, "a lanes loop carries nothing")
                if reads[0] >= loops[-1][0]:
                    raise self.fault(func, at, "a carry starts from a value above its loop")
                loops[-1][1].append(at)
            elif opcode == "yield":
                if not loops:
                    raise self.fault(func, at, "a yield without a loop")
                start, carries = loops.pop()
                if got != "".join([typed[c] for c in carries]):
                    raise self.fault(func, at, "a yield names the next value of every carry")
                visible[start:] = [False] * (at - start)
                lanes = -1 if lanes == len(loops) else lanes
                closed = (at, carries)
            elif opcode in ("argument", "return"):
                self.expect(func, at, func.pure)
                if opcode == "return" and at != len(func.ops) - 1:
                    raise self.fault(func, at, "a return is the last op")
            elif opcode == "apply":
                callee = self.funcs.get(imm)
                if callee is None or not callee.pure:
                    raise self.fault(func, at, f"no pure function {imm}")
                closed = (at, [at] * len(got))
            elif opcode == "result":
                last = closed is not None and all(
                    func.ops[k][0] == "result" for k in range(closed[0] + 1, at)
                )
                if closed is None or not last or not 0 <= imm < len(closed[1]):
                    raise self.fault(func, at, "a result stands directly after its yield or apply")
                result = typed[closed[1][imm]]
            elif opcode == "call":
                callee = self.funcs.get(imm)
                if callee is None or callee.exported or callee.pure:
                    raise self.fault(func, at, f"a call of no internal function: {imm}")
                if any(op[0] == "call" for op in callee.ops):
                    raise self.fault(func, at, "a called function calls nothing")
                if any(buffers.get(b.name) != b for b in callee.buffers):
                    raise self.fault(func, at, f"{imm} wants buffers that are not here")
            elif opcode == "call_at":
                name, moved = imm
                callee = self.funcs.get(name)
                self.expect(func, at, len(moved) == len(reads))
                if callee is None or not callee.exported or callee.counted or lanes >= 0:
                    raise self.fault(func, at, f"call_at of no exported function: {name}")
                if any(buffers.get(b.name) != b for b in callee.buffers) or any(
                        op[0] == "call_at" for op in callee.ops):
                    raise self.fault(func, at, f"{name} wants buffers that are not here")
                if not {b.name for b in callee.buffers}.issuperset(moved):
                    raise self.fault(func, at, f"{name} has no such buffers: {', '.join(moved)}")
            typed.append(result)
            visible.append(result != "")
        if loops:
            raise self.fault(func, len(func.ops) - 1, "a loop is not closed")

    def expect(self, func: Func, at: int, good: bool) -> None:
        if not good:
            raise self.fault(func, at, f"{func.ops[at][0]} is ill-formed")

    def fits(self, kind: str, imm: Any, buffers: Mapping[str, Buffer]) -> bool:
        """Whether an immediate is of its row's kind."""
        if kind in ("real", "int", "lanes"):
            wanted = float if kind == "real" else int
            return isinstance(imm, wanted) and (kind != "lanes" or imm >= 0)
        if kind in ("place", "call"):
            return isinstance(imm, tuple) and len(imm) == 2
        if kind == "table":
            return imm in self.tables and self.tables[imm].type == "w"
        return imm in buffers if kind == "buffer" else (imm is None) == (kind == "")

    def access(self, func: Func, at: int, row: Opcode, reads: tuple[int, ...],
               imm: tuple[str, int], buffers: Mapping[str, Buffer], in_lanes: bool) -> str:
        """The type letter of what stands at a place."""
        name, offset = imm
        table, buffer = self.tables.get(name), buffers.get(name)
        size = len(table.values) if table else buffer.size if buffer else -1
        if size < 0:
            raise self.fault(func, at, f"no buffer or table {name}")
        if len(reads) == row.values and not 0 <= offset < size:
            raise self.fault(func, at, f"{name}[{offset}] lies outside its {size} elements")
        kind = "table" if table else buffer.kind if buffer else ""
        good = {"load": ("in", "inout", "value", "work", "private", "table"),
                "store": ("out", "inout", "work", "private")}.get(row.name, ("inout", "work"))
        if kind not in good or (kind == "private" and not in_lanes):
            raise self.fault(func, at, f"{row.name} of {name}, which is {kind}")
        return table.type if table else "f"


# ---- meaning


def _run(module: Module, func: Func, buffers: dict[str, Any], tables: Mapping[str, Any],
         n: int | None, evaluate: Numpy, argument: Any = None) -> Any:
    """Run a function; what a pure one makes of `argument`."""
    ops = func.ops
    real = DTYPES[module.dtype]
    values: list[Any] = [None] * len(ops)
    ends: dict[int, int] = {}
    stack: list[int] = []
    for at, op in enumerate(ops):
        if op[0] == "for":
            stack.append(at)
        elif op[0] == "yield":
            ends[stack.pop()] = at
    private = {b.name: b.size for b in func.buffers if b.kind == "private"}
    # A batch has an axis behind that of the lanes.
    batch = max([held.shape[1:] for held in buffers.values()], key=len, default=())
    for b in func.buffers:
        if b.kind == "work" and b.name not in buffers:
            buffers[b.name] = np.full((b.size, *batch), np.nan, real)
    in_lanes = width = 0  # iterations of the lanes loop that is open, and its lanes
    running: list[tuple[int, int, int]] = []  # (for, the next index, hi) of the open plain loops
    at = 0
    while at < len(ops):
        opcode, reads, imm = ops[at]
        if opcode in OPCODES:
            args = [values[r] for r in reads]
            if opcode == "iadd":
                values[at] = args[0] + args[1]
            elif opcode == "any":
                values[at] = int(np.any(args[0]))
            elif opcode == "imul":
                values[at] = args[0] * args[1]
            elif opcode == "imin":
                values[at] = min(args)
            elif opcode == "idiv":
                values[at] = args[0] // args[1]
            else:
                values[at] = evaluate.op(opcode, *args)
        elif opcode == "const":
            values[at] = evaluate.const(imm)
        elif opcode == "word":
            values[at] = evaluate.word(imm)
        elif opcode == "index":
            values[at] = imm
        elif opcode == "count":
            values[at] = n
        elif opcode == "lookup":
            values[at] = tables[imm][values[reads[0]]]
        elif opcode == "load":
            name, offset = imm
            index = values[reads[0]] + offset if reads else offset
            held = tables.get(name)
            got = (buffers[name] if held is None else held)[index]
            if batch and np.ndim(index) == got.ndim > 0 and got.dtype == real:
                got = got.reshape(*got.shape, *[1] * len(batch))
            values[at] = got.copy()
        elif opcode == "store":
            name, offset = imm
            index = values[reads[1]] + offset if len(reads) > 1 else offset
            buffers[name][index] = values[reads[0]]
        elif opcode in SUMS:
            name, offset = imm
            index = values[reads[2]] + offset if len(reads) > 2 else offset
            a, c, total = values[reads[0]], values[reads[1]], buffers[name][index]
            if in_lanes:
                a, c = [np.broadcast_to(v, (in_lanes, *batch)) for v in (a, c)]
            if width > 1:
                total = (by_lanes if opcode == "accumulate" else one_by_one)(evaluate, a, c, total)
            else:
                for x, y in zip(a, c, strict=True) if in_lanes else ((a, c),):
                    total = term(evaluate, x, y, total)
            buffers[name][index] = total
        elif opcode == "given":
            values[at] = int(buffers.get(imm) is not None)
        elif opcode == "for":
            lo, hi = int(values[reads[0]]), int(values[reads[1]])
            carries: list[int] = []
            while ops[at + 1 + len(carries)][0] == "carry":
                carries.append(at + 1 + len(carries))
            for c in carries:
                values[c] = values[ops[c][1][0]]
            if imm and lo < hi:  # the iterations of a lanes loop, all at once
                values[at] = np.arange(lo, hi)
                in_lanes, width = hi - lo, imm
                for name, size in private.items():
                    buffers[name] = np.full((size, hi - lo, *batch), np.nan, real)
                running.append((at, hi, hi))
                at += len(carries)
            elif lo < hi:
                values[at] = lo
                running.append((at, lo + 1, hi))
                at += len(carries)
            else:
                at = ends[at]
                _results(ops, values, at, [values[c] for c in carries])
        elif opcode == "yield":
            start, following, hi = running.pop()
            if ops[start][2]:
                in_lanes = width = 0
            nexts = [values[r] for r in reads]
            for k, v in enumerate(nexts):
                values[start + 1 + k] = v
            if following < hi:
                values[start] = following
                running.append((start, following + 1, hi))
                at = start + len(reads)
            else:
                _results(ops, values, at, nexts)
        elif opcode == "call":
            _run(module, module.func(imm), buffers, tables, n, evaluate)
        elif opcode == "call_at":
            first = dict(zip(imm[1], [values[r] for r in reads], strict=True))
            callee = module.func(imm[0])
            _run(module, callee, {b.name: buffers[b.name][first.get(b.name, 0) :]
                                  for b in callee.buffers if b.name in buffers},
                 tables, None, evaluate)
        elif opcode == "apply":
            callee = module.func(imm)
            made = [_run(module, callee, {}, tables, n, evaluate, values[r]) for r in reads]
            values[at] = made[0]
            _results(ops, values, at, made)
        elif opcode == "argument":
            values[at] = argument
        elif opcode == "return":
            return values[reads[0]]
        at += 1
    return None


def _results(ops: list[Op], values: list[Any], at: int, last: list[Any]) -> None:
    """The values of the results behind the yield or apply at `at`, in any order."""
    at += 1
    while at < len(ops) and ops[at][0] == "result":
        values[at] = last[ops[at][2]]
        at += 1
