"""The table of opcodes: the one list that every reading of an op is keyed by.

Types: `f` a real of the module's dtype, `w` a word (an integer as wide as that real, two's
complement), `i` an index (as wide as the target's pointers), `b` a truth value. `OPCODES` are the
scalar ops, `CONTROL` those of control and memory, `OPS` both. Readings: the interpreter
(`ncc/scalar/numpy_eval.py`), LLVM (`to_llvm`), C (`to_c`), the terms of the prover
(`ncc/ir/equivalence.py`); the text, its reader, the types and the verifier of the ssa level, and
what cse and dce may do with an op, follow from its row.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple


class Opcode(NamedTuple):
    """A row: what an op reads, makes and does.

    reads     type letters. `*` is any type, the same at each `*`; `i?` an index that may be left
              out; `f+` one real or more; `...` any values
    result    the type letter of its value. `` none; `*` that of its last read; `?` what its
              immediate and the ops before it say
    commutes  its first two reads may change places
    math      becomes arithmetic in `expand`
    imm       what its immediate is: `` none, `real`, `int`, `table` (the name of a table of words),
              `buffer` (a name), `place` ((buffer or table, offset)), `lanes` (int), `func` (a
              name), `call` ((function, buffers))
    effect    what its value depends on and what it does beside making it:
              ``       nothing but its reads and its immediate
              frame    its value depends on the call of the function it stands in
              read     its value depends on memory
              write    it changes memory
              call     it runs a function that may change memory
              control  it says where control goes
    """

    name: str
    reads: str
    result: str
    commutes: bool = False
    math: bool = False
    imm: str = ""
    effect: str = ""

    @property
    def values(self) -> int:
        """Of an op with a place: how many values it reads before the index of the place."""
        return len(self.reads.removesuffix("i?"))


OPCODES: dict[str, Opcode] = {
    o.name: o
    for o in (
        # reals, each rounded to nearest, ties to even
        Opcode("add", "ff", "f", commutes=True),
        Opcode("sub", "ff", "f"),
        Opcode("mul", "ff", "f", commutes=True),
        Opcode("div", "ff", "f"),
        Opcode("fma", "fff", "f", commutes=True),  # a*b + c, rounded once
        Opcode("neg", "f", "f"),  # flips the sign bit
        Opcode("abs", "f", "f"),  # clears the sign bit
        Opcode("max", "ff", "f"),  # b if b > a else a
        Opcode("min", "ff", "f"),  # b if b < a else a
        # comparisons: false where a NaN takes part, but for `une`, which is true
        Opcode("lt", "ff", "b"),
        Opcode("gt", "ff", "b"),
        Opcode("le", "ff", "b"),
        Opcode("ge", "ff", "b"),
        Opcode("eq", "ff", "b", commutes=True),
        Opcode("une", "ff", "b", commutes=True),
        Opcode("select", "b**", "*"),  # b if a else c
        # a itself; in a lane that repeats the last sample, where too few are left, +0
        Opcode("mask", "f", "f", effect="frame"),
        # words; shifts by a word in 0 .. width-1
        Opcode("bits", "f", "w"),
        Opcode("unbits", "w", "f"),
        Opcode("wadd", "ww", "w", commutes=True),
        Opcode("wsub", "ww", "w"),
        Opcode("wmul", "ww", "w", commutes=True),  # the low half
        Opcode("wand", "ww", "w", commutes=True),
        Opcode("wor", "ww", "w", commutes=True),
        Opcode("wxor", "ww", "w", commutes=True),
        Opcode("wshl", "ww", "w"),
        Opcode("wshr", "ww", "w"),  # logical
        Opcode("wsar", "ww", "w"),  # arithmetic
        Opcode("weq", "ww", "b", commutes=True),
        Opcode("wlt", "ww", "b"),  # signed
        # indices
        Opcode("iadd", "ii", "i", commutes=True),
        Opcode("imul", "ii", "i", commutes=True),
        Opcode("any", "b", "i"),  # 1 where it holds in any lane: bounds what is rarely needed
        Opcode("imin", "ii", "i", commutes=True),
        Opcode("idiv", "ii", "i"),  # of indices that are not negative, rounded down
        Opcode("real", "i", "f"),  # an index that is not negative, rounded to nearest
        # mathematics: the compiler's own arithmetic, ncc/scalar/mathlib.py
        Opcode("exp", "f", "f", math=True),
        Opcode("expm1", "f", "f", math=True),
        Opcode("log", "f", "f", math=True),
        Opcode("log1p", "f", "f", math=True),
        Opcode("tanh", "f", "f", math=True),
        Opcode("sigmoid", "f", "f", math=True),
        Opcode("softplus", "f", "f", math=True),  # log(1 + exp(x))
        Opcode("erf", "f", "f", math=True),
        Opcode("sin", "f", "f", math=True),
        Opcode("cos", "f", "f", math=True),
        Opcode("atan", "f", "f", math=True),
        Opcode("sqrt", "f", "f", math=True),  # correctly rounded; kept where the target has it
        Opcode("relu", "f", "f", math=True),  # x if x > 0, NaN if NaN, else +0
        Opcode("step", "f", "f", math=True),  # 1 if x > 0 else +0
    )
}

CONTROL: dict[str, Opcode] = {
    o.name: o
    for o in (
        Opcode("const", "", "f", imm="real"),
        Opcode("word", "", "w", imm="int"),
        Opcode("index", "", "i", imm="int"),
        Opcode("lookup", "w", "w", imm="table"),  # table[word]
        # buffer[index + offset], of the buffer's or table's type
        Opcode("load", "i?", "?", imm="place", effect="read"),
        Opcode("store", "fi?", "", imm="place", effect="write"),
        # The loop's index, lo <= k < hi; `lanes` iterations side by side, 0: a plain loop.
        Opcode("for", "ii", "i", imm="lanes", effect="control"),
        # Directly after its `for`: a value carried around, at first the one that is read.
        Opcode("carry", "*", "*", effect="control"),
        # Closes the innermost `for`: the next values of its carries, in order.
        Opcode("yield", "...", "", effect="control"),
        # After a yield, the last value of carry number `imm`; after an apply, what its function
        # makes of that value, from 1 on.
        Opcode("result", "", "?", imm="int", effect="control"),
        # Another function, given this one's buffers.
        Opcode("call", "", "", imm="func", effect="call"),
        # An exported function, given this one's buffers, of which those named begin at these
        # elements.
        Opcode("call_at", "i+", "", imm="call", effect="call"),
        Opcode("count", "", "i", effect="frame"),  # the samples, in a counted function
        # buffer[index + offset] plus a*b, one term more of a chain; in a lanes loop of 2 or more,
        # plus the sums of a*b over the iterations, round by round, each `by lanes`
        # (ncc/scalar/sum_order.py). An element is that of one op at one index.
        Opcode("accumulate", "ffi?", "", imm="place", effect="write"),
        Opcode("accrue", "ffi?", "", imm="place", effect="write"),  # the same, `in order`
        Opcode("given", "", "i", imm="buffer", effect="frame"),  # 1, or 0 where it is NULL
        # What a pure function makes of the first value; of the others that is in `result`s.
        Opcode("apply", "f+", "f", imm="func"),
        Opcode("argument", "", "f"),  # in a pure function: what it is applied to
        # The last op of a pure function: what it makes of its argument.
        Opcode("return", "f", "", effect="control"),
    )
}

OPS: dict[str, Opcode] = OPCODES | CONTROL
WRITES = frozenset(o.name for o in OPS.values() if o.effect == "write")
# What has to stay though nothing reads a value of it; loops and returns apart.
EFFECTS = frozenset(o.name for o in OPS.values() if o.effect in ("write", "call"))
SUMS = WRITES - {"store"}
COMMUTES = frozenset(o.name for o in OPS.values() if o.commutes)


@lru_cache(1024)
def takes(opcode: str, types: str) -> bool:
    """Whether an op of `OPS` may read values of these type letters."""
    reads = OPS[opcode].reads
    pattern = ".*" if reads == "..." else reads.replace("**", r"(.)\1").replace("*", ".")
    return re.fullmatch(pattern, types) is not None
