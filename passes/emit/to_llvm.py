"""The ssa module as the text of an LLVM module: the pass. How functions are written stands in the
room passes/emit/llvm/."""

from __future__ import annotations

from collections.abc import Iterator

from ncc.ir.ssa import Func, Module
from ncc.machine.x86 import assembly, fits
from ncc.passes.emit.llvm.functions import function_text, variant_text
from ncc.passes.emit.llvm.writer import Unit, Variant, Writer
from ncc.passes.emit.tables import constants


def to_llvm(module: Module, *, triple: str = "", vector_bits: int = 0, index_bits: int = 64,
            reach: int = 0, registers: int = 16, attributes: str = "", outside: bool = False,
            assembles: int = 0, flash: int = 0, divides: bool = True) -> str:
    """One LLVM module, as text.

        func forward(x in 2, y out 1) {
          %0 = load x[0]
          %1 = load x[1]
          %2 = fma %0, %1, %1
          store %2, y[0]
        }
        =>
        ...
        define void @net_forward(ptr noalias readonly %x, ptr noalias %y) #0 {
        entry:
          %t1 = load float, ptr %x, align 4
          %a1 = getelementptr inbounds float, ptr %x, i64 1
          %l1 = load float, ptr %a1, align 4
          %t2 = call float @llvm.fma.f32(float %t1, float %l1, float %l1)
          store float %t2, ptr %y, align 4
          ret void
        }
        ...

    Values of a lanes loop that differ from lane to lane become vectors of `vector_bits`, as many
    as the lanes need; a load is a vector load from a private buffer and one load a lane from
    elsewhere. A last round with too few samples repeats the last sample in the lanes left over,
    which then store the same bits to the same place. Where the loop's bounds are constants and
    its rounds are whole, consecutive elements are loaded and stored as whole vectors, of any
    alignment. As many loads (or stores) in a row, of consecutive elements of each lane's, as a
    vector has lanes are vector loads and a transposition. In long straight functions memory is
    addressed from pointers at most `reach` bytes away, where that is given
    (passes/emit/anchors.py).

    No function is called but intrinsics that are one instruction, and no name of a user's stands in
    the text.

    A loop whose sums are more than half of the `registers` is written twice, for one half of the
    lanes' vectors after the other: more rows share what is loaded, and no sum leaves its register.
    Where many loops do nothing but elementwise arithmetic on private memory, as those of many
    activations do, the vectors of their lanes take turns in a loop of their own.
    In a loop that accumulates, each lane of a vector is a chain of samples of
    ncc/scalar/sum_order.py: four vectors hold them, one sample each, and a vector may be longer
    than a round. Accrues of the outer product of values and a whole number of vectors' lanes of
    deltas are sums over the samples, one after the other, in which the deltas are the lanes; half
    of the registers hold sums.

    Straight functions of plain reals are assembly, ncc's own (ncc/machine/x86.py), on a target for
    which it `assembles`; so are, in vectors of up to so many bits, tiles that a batch moves between
    rows of samples and private memory (passes/emit/tile_moves.py, passes/emit/tile_assembly.py).

    Functions whose ops have neurons say those of their instructions (passes/emit/links.py).
    Tables are in the address space `flash`; where the target `divides` not, the module does.
    `outside` leaves out the cells of large tables: the process that loads the object has them in
    memory, and tells where. As text each of their bytes is three, which LLVM reads and copies.
    """
    # The name of the object's own file (its symbol of type FILE), which has none.
    head = [f'source_filename = "{module.name}"', f'target triple = "{triple}"']
    elf = "linux" in triple or "none" in triple
    unit = Unit(module, vector_bits=vector_bits, index_bits=index_bits, reach=reach,
                registers=registers, elf=elf, flash=flash, divides=divides,
                assembles=assembles)
    lines = [*(head if triple else []), "", *constants(module, outside, elf, vector_bits, flash)]
    for func in module.funcs:
        if assembles and func.exported and fits(func):
            lines.append(_assembled(unit, func))
        elif not func.pure:
            lines.append(function_text(Writer(unit, func)))
    lines += [*_variants(unit), *sorted(unit.used), *unit.links.lines]
    return "\n".join([*lines, *_attributes(unit, attributes, assembles)]) + "\n"


def _variants(unit: Unit) -> Iterator[str]:
    """The texts of pure functions that are applied, each of which may apply others."""
    written: set[Variant] = set()
    while rest := [v for v in unit.applied if v not in written]:
        written.update(rest)
        pure = {func.name: func for func in (*unit.module.funcs, *unit.rare.values())}
        yield from [variant_text(Writer(unit, pure[v.name]), v) for v in rest]


def _attributes(unit: Unit, attributes: str, assembles: int) -> list[str]:
    """The groups of attributes that functions name."""
    usual = "nounwind norecurse mustprogress"
    lines = [f"attributes #0 = {{ {usual} {attributes} }}",
             # The machine improves functions with loops; straight ones are as they should be.
             f'attributes #2 = {{ {usual} "loops" {attributes} }}',
             f"attributes #1 = {{ nounwind noinline norecurse {attributes} }}"]
    if any(func.exported for func in unit.module.funcs) and assembles:
        lines.append(f"attributes #4 = {{ naked nounwind {attributes} }}")
    if unit.applied:
        lines.append("attributes #3 = { nounwind noinline norecurse willreturn memory(none) "
                     f"{attributes} }}")
    return lines


def _assembled(unit: Unit, func: Func) -> str:
    """The text of a function that is assembly."""
    called = []
    for opcode, _, imm in func.ops:
        if opcode == "apply":
            # Over vectors even where it is one real: those have their words in the same registers,
            # and it is one variant to compile.
            variant = Variant(imm, 128 // unit.bits, 1)
            unit.applied[variant] = None
            called.append(unit.symbol(variant.symbol))
    symbol = unit.symbol(func.name)
    body = assembly(func, unit.module.dtype, symbol, called).replace("\n", "\\0A")
    arguments = ", ".join([f"ptr %{b.name}" for b in func.buffers])
    section = f' section ".text.{symbol}"' if unit.elf else ""
    return (f"define void @{symbol}({arguments}) #4{section} {{\nentry:\n"
            f'  call void asm sideeffect "{body}", ""()\n  unreachable\n}}\n')
