"""The prover: each output as a term, so that a pass can be shown to have changed none.

A module is executed on symbols. Every value becomes a *term*, a node of a graph in which equal
nodes are one (hash consing: Ershov 1958), so that two outputs are equal where their numbers are.
Two modules executed over one store of terms are the same where each output of one is the same
number as that of the other; this is translation validation (Necula 2000) of fold, cse, dce and
split, and it shares no code with them.

Memory is a term, too: a *version* of a buffer, made from the one before by a store. Cells of
straight code are told apart by their constant index. A loop is one term: its bounds, what its
carries start from and become, and what one iteration does to the buffers that it writes, all
under symbols for its index, its carries and its buffers at the iteration's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ncc.errors import NccError
from ncc.ir.ssa import READ_ONLY, Func, Module, Op
from ncc.ir.symbolic import Terms
from ncc.scalar.opcodes import EFFECTS, OPCODES, SUMS, WRITES

Outputs = dict[tuple[str, str], tuple[int, dict[int, int]]]


def prove(before: Module, after: Module) -> None:
    """Raise an NccError (E305, status 3) unless `after` computes what `before` does.

    That is: the same exported functions of the same buffers (`work` may be of another size), and
    in each the same term for every cell of every buffer that is an output. Both modules are
    verified ones. A term that is the same is a proof; one that differs may be a rewriting that
    is right and that this prover does not know.
    """
    if (before.dtype, before.numerics) != (after.dtype, after.numerics):
        raise _fault("the dtype or the numerics of the module changed")
    if _signatures(before) != _signatures(after):
        raise _fault("the exported functions or their buffers changed")
    terms = Terms(before.dtype, before.fused)
    old, new = outputs(before, terms), outputs(after, terms)
    for (func, buffer), (rest, cells) in old.items():
        rest_now, cells_now = new[func, buffer]
        if cells == cells_now and rest == rest_now:
            continue
        if rest == rest_now:
            for at in sorted({**cells, **cells_now}):
                a, b = cells.get(at), cells_now.get(at)
                if a != b:
                    raise _fault(f"{func}: {buffer}[{at}] is not the term it was",
                                 terms.difference(a, b))
        raise _fault(f"{func}: what is written to {buffer}[..] is not the term it was",
                     terms.difference(terms.memory(rest, cells), terms.memory(rest_now, cells_now)))


def outputs(module: Module, terms: Terms) -> Outputs:
    """For each exported function and each buffer of it that is an output (`out`, `inout`): the
    term of the whole buffer but for the cells last written at a constant index, and those."""
    run = _Run(module, terms)
    out: Outputs = {}
    for func in module.funcs:
        if func.exported:
            memory = run.function(func)
            for b in func.buffers:
                if b.kind in ("out", "inout"):
                    cells = memory[b.name]
                    if cells.symbol == terms.zero:
                        out[func.name, b.name] = cells.version, cells.values
                    else:
                        out[func.name, b.name] = cells.freeze(terms), {}
    return out


def _fault(message: str, note: str = "") -> NccError:
    return NccError("E305", f"not proved: {message}", note=note)


def _signatures(module: Module) -> list[Any]:
    return sorted(
        (f.name, f.counted, [(b.name, b.kind, 0 if b.kind == "work" else b.size)
                             for b in f.buffers if b.kind != "private"])
        for f in module.funcs if f.exported
    )


@dataclass
class _Cells:
    """A buffer: a version, and the cells [symbol + k] written since; `symbol` has no constant,
    so that they are distinct. A store through another symbol freezes them into a new version."""

    version: int
    symbol: int
    values: dict[int, int] = field(default_factory=dict)
    frozen: int = -1  # the version with `values`, once it was asked for

    def freeze(self, terms: Terms) -> int:
        if self.frozen < 0:
            self.frozen = terms.memory(self.version, self.values, self.symbol)
        return self.frozen

    def load(self, terms: Terms, symbol: int, at: int) -> int:
        if symbol != self.symbol:
            return terms.make("at", at, (self.freeze(terms), symbol))
        value = self.values.get(at)
        return terms.make("at", at, (self.version, symbol)) if value is None else value

    def store(self, terms: Terms, symbol: int, at: int, value: int) -> None:
        if symbol != self.symbol:
            self.version, self.symbol, self.values = self.freeze(terms), symbol, {}
        self.values[at] = value
        self.frozen = -1


@dataclass
class _Loop:
    """A loop whose body is being executed."""

    lanes: int
    depth: int
    heads: tuple[int, ...]  # lo, hi, and what the carries start from
    written: list[str]  # the buffers that the body stores to
    entered: tuple[int, ...]  # their versions above the loop


class _Run:
    """The symbolic execution of one module."""

    def __init__(self, module: Module, terms: Terms) -> None:
        self.module = module
        self.terms = terms
        self.funcs = {f.name: f for f in module.funcs}
        self.tables = {t.name: t for t in module.tables}
        # By content: a table's name is no part of what a load from it means.
        self.contents = {t.name: terms.make("table", (t.type, t.values.tobytes()))
                         for t in module.tables}
        self.writes = {f.name: list(dict.fromkeys(op[2][0] for op in f.ops if op[0] in WRITES))
                       for f in module.funcs}
        self.loops: list[_Loop] = []
        self.argument = self.returned = -1  # of the pure function that is being executed

    def function(self, func: Func) -> dict[str, _Cells]:
        terms = self.terms
        memory = {b.name: _Cells(terms.make("initial", b.name), terms.zero) for b in func.buffers}
        private = [b.name for b in func.buffers if b.kind == "private"]
        self.body(func.ops, memory, private)
        return memory

    def body(self, ops: list[Op], memory: dict[str, _Cells], private: list[str]) -> None:
        """Execute `ops`; `memory` is changed in place. Calls go one level deep, as verified."""
        terms = self.terms
        zero, make, apply = terms.zero, terms.make, terms.apply
        values: list[int] = []
        last = -1  # the term of the loop closed last
        made: list[int] = []  # of the apply before, if none was closed since
        written = self.written(ops)
        for at, (opcode, reads, imm) in enumerate(ops):
            value = -1
            if opcode in OPCODES:
                value = apply(opcode, tuple([values[r] for r in reads]))
            elif opcode == "load":
                name, offset = imm
                symbol = zero
                if reads:
                    symbol, constant = terms.address(values[reads[0]])
                    offset += constant
                if name in self.tables:
                    value = self.cell(name, symbol, offset)
                else:
                    value = memory[name].load(terms, symbol, offset)
            elif opcode == "store":
                name, offset = imm
                symbol = zero
                if len(reads) > 1:
                    symbol, constant = terms.address(values[reads[1]])
                    offset += constant
                memory[name].store(terms, symbol, offset, values[reads[0]])
            elif opcode in SUMS:
                name, offset = imm
                symbol = zero
                if len(reads) > 2:
                    symbol, constant = terms.address(values[reads[2]])
                    offset += constant
                pair = sorted((values[reads[0]], values[reads[1]]))
                old = memory[name].load(terms, symbol, offset)
                memory[name].store(terms, symbol, offset, make(opcode, None, (old, *pair)))
            elif opcode == "const":
                value = terms.real(imm)
            elif opcode == "word":
                value = terms.word(imm)
            elif opcode == "index":
                value = terms.index(imm)
            elif opcode == "count":
                value = make("count")
            elif opcode == "given":
                value = make("given", imm)
            elif opcode == "lookup":
                value = make("lookup", None, (self.contents[imm], values[reads[0]]))
            elif opcode == "for":
                value = self.enter(at, ops, values, memory, private, written[at])
            elif opcode == "carry":
                loop = self.loops[-1]
                value = make("carry", (loop.depth, len(loop.heads) - 2))
                loop.heads = (*loop.heads, values[reads[0]])
            elif opcode == "yield":
                last = self.leave([values[r] for r in reads], memory, private)
                made = []
            elif opcode == "result":
                value = made[imm] if made else make("result", imm, (last,))
            elif opcode == "call":
                callee = self.funcs[imm]
                self.body(callee.ops, memory, private)
            elif opcode == "call_at":  # what it does is proved where the function itself is
                callee = self.funcs[imm[0]]
                held = [memory[b.name].freeze(terms) for b in callee.buffers]
                children = (*[values[r] for r in reads], *held)
                for b in callee.buffers:
                    if b.kind not in READ_ONLY:
                        memory[b.name] = _Cells(make("called", (*imm, b.name), children), zero)
            elif opcode == "apply":
                made = [self.applied(self.funcs[imm], values[r]) for r in reads]
                value = made[0]
            elif opcode == "argument":
                value = self.argument
            elif opcode == "return":
                self.returned = values[reads[0]]
            values.append(value)

    def applied(self, func: Func, argument: int) -> int:
        """What a pure function makes of a term: its body's term, as if it stood there."""
        self.argument = argument
        self.body(func.ops, {}, [])
        return self.returned

    def cell(self, name: str, symbol: int, at: int) -> int:
        """A load from a constant table: at a constant index, the constant."""
        table = self.tables[name]
        if symbol == self.terms.zero and 0 <= at < len(table.values):
            value = table.values[at].item()
            if table.type == "f":
                return self.terms.real(value)
            return self.terms.index(value) if table.type == "i" else self.terms.word(value)
        return self.terms.make("at", at, (self.contents[name], symbol))

    def written(self, ops: list[Op]) -> dict[int, list[str]]:
        """For each loop, by the number of its `for`: the buffers that its body stores to."""
        found: dict[int, dict[str, None]] = {}
        stack: list[int] = []
        for at, (opcode, _, imm) in enumerate(ops):
            if opcode == "for":
                stack.append(at)
                found[at] = {}
            elif opcode == "yield":
                stack.pop()
            elif stack and opcode in EFFECTS:
                names: Iterable[str] = self.writes[imm] if opcode == "call" else [imm[0]]
                if opcode == "call_at":
                    names = [b.name for b in self.funcs[imm[0]].buffers
                             if b.kind not in READ_ONLY]
                for start in stack:
                    found[start].update(dict.fromkeys(names))
        return {at: sorted(names) for at, names in found.items()}

    def enter(self, at: int, ops: list[Op], values: list[int], memory: dict[str, _Cells],
              private: list[str], names: list[str]) -> int:
        terms, depth = self.terms, len(self.loops)
        lanes = ops[at][2]
        if lanes:  # each iteration has private buffers to itself, with nothing in them
            for name in private:
                memory[name] = _Cells(terms.make("private", name), terms.zero)
            names = [n for n in names if n not in private]
        entered = tuple([memory[n].freeze(terms) for n in names])
        for n in names:
            memory[n] = _Cells(terms.make("entry", (depth, n)), terms.zero)
        heads = tuple([values[r] for r in ops[at][1]])
        self.loops.append(_Loop(lanes, depth, heads, names, entered))
        return terms.make("step", depth)

    def leave(self, nexts: list[int], memory: dict[str, _Cells], private: list[str]) -> int:
        terms = self.terms
        loop = self.loops.pop()
        left = [memory[n].freeze(terms) for n in loop.written]
        shape = (loop.lanes, len(nexts), tuple(loop.written))
        term = terms.make("loop", shape, (*loop.heads, *nexts, *loop.entered, *left))
        for n in loop.written:
            memory[n] = _Cells(terms.make("after", n, (term,)), terms.zero)
        if loop.lanes:
            for name in private:
                memory[name] = _Cells(terms.make("private", name), terms.zero)
        return term
