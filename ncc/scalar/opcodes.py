"""The table of scalar opcodes: the one list that every reading of an op is keyed by.

Types: `f` a real of the module's dtype, `w` a word (an integer as wide as that real, two's
complement), `i` an index (as wide as the target's pointers), `b` a truth value. `*` means any
type, the same at each `*`. Readings: the interpreter (`ncc/scalar/numpy_eval.py`), LLVM
(`to_llvm`), C (`to_c`), the terms of the prover (`ncc/ir/equivalence.py`).
"""

from __future__ import annotations

from typing import NamedTuple


class Opcode(NamedTuple):
    """`reads` and `result` are type letters; `math` ops become arithmetic in `expand`."""

    name: str
    reads: str
    result: str
    commutes: bool = False
    math: bool = False


OPCODES: dict[str, Opcode] = {
    o.name: o
    for o in (
        # reals, each rounded to nearest, ties to even
        Opcode("add", "ff", "f", commutes=True),
        Opcode("sub", "ff", "f"),
        Opcode("mul", "ff", "f", commutes=True),
        Opcode("div", "ff", "f"),
        Opcode("fma", "fff", "f"),  # a*b + c, rounded once
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
        Opcode("mask", "f", "f"),
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

# Ops with an immediate or an effect, which each reading treats in its own words:
#   const  ()           imm the real (float)            -> f
#   word   ()           imm the word (int)              -> w
#   index  ()           imm the index (int)             -> i
#   lookup (w,)         imm the table's name: table[word], a table of words  -> w
#   load   () or (i,)   imm (buffer, offset): buffer[index + offset]   -> the buffer's type
#   store  (f,) or (f, i)  imm (buffer, offset)
#   accumulate (f, f) or (f, f, i)  imm (buffer, offset): the buffer's cell plus a*b, one term more
#          of a chain; in a lanes loop of 2 or more, plus the sums of a*b over the iterations, round
#          by round, each `by lanes` (ncc/scalar/sum_order.py); a cell is one op's at one index,
#          then
#   accrue as accumulate, but that the sums of rounds are those `in order`
#   given  ()           imm the buffer's name: 1, or 0 where the caller gave NULL  -> i
#   for    (i, i)       imm lanes (0: a plain loop): its value is the loop's index, lo <= k < hi
#   carry  (*,)         directly after its `for`: a value carried around, at first read[0]
#   yield  (*, ...)     closes the innermost `for`: the next values of its carries, in order
#   result ()           imm k: after a yield, the k-th carry's last value; after an apply, what its
#          function makes of the k-th value, k > 0
#   count  ()           the number of samples, in a counted function  -> i
#   call   ()           imm the name of another function, given this one's buffers
#   call_at (i, ...)    imm (name, buffers): calls an exported function, given this one's buffers,
#          of which those named begin at these elements
#   apply  (f, ...)     imm the name of a pure function, which may take all at once; its value
#          is what the function makes of the first  -> f
#   argument ()         in a pure function: what it is applied to  -> f
#   return (f,)         the last op of a pure function: what it makes of its argument
CONTROL = ("const", "word", "index", "lookup", "load", "store", "for", "carry", "yield", "result",
           "call", "call_at", "count", "accumulate", "accrue", "given", "apply", "argument",
           "return")
