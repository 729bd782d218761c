"""What the user asks of the code of a net, and what a target makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ncc.errors import NccError
from ncc.ir.graph_types import Arrays
from ncc.ir.ssa import dtype_name
from ncc.machine.targets import Target


@dataclass(frozen=True)
class Settings:
    """What the user asks of the code, whatever net and target it is for.

    dtype      what it computes in: "f32" or "f64", or numpy's name or type of either; None is what
               the net asks for, else f32
    numerics   "strict", "fused" or "fast"; None is what the net asks for, else fused where the
               target can, else strict
    opt        0..3, the effort of LLVM; never changes a result
    cache      whether an object may come from the cache on disk, and be kept there
    passes     options of passes by name; with `limit` False, no compile is given up
    """

    dtype: Any = None
    numerics: str | None = None
    opt: int = 2
    cache: bool = True
    passes: Mapping[str, Any] = field(default_factory=dict)

    def of(self, graph: Arrays) -> Settings:
        """These of the code of one net, with what that asks for where nothing is said."""
        dtype, numerics = arithmetic(graph, self.dtype, self.numerics)
        return replace(self, dtype=dtype, numerics=numerics)

    def options(self, target: Target, **more: Any) -> dict[str, Any]:
        """All that the passes are told for a target: `more` goes before `passes`."""
        return options(target, dtype=self.dtype, numerics=self.numerics, **{**self.passes, **more})


USUAL = Settings()


def arithmetic(graph: Arrays, dtype: Any, numerics: str | None) -> tuple[str, str | None]:
    """dtype and numerics of the code of a net: as the caller says, else, of None, as the net asks
    for, else f32, and the numerics that its target has. NccError E603 for an unknown dtype."""
    return dtype_name(graph.dtype or "f32" if dtype is None else dtype), numerics or graph.numerics


@dataclass(frozen=True)
class Derived:
    """What a target makes of dtype, numerics and size: options of passes, by their names.

    numerics      as asked for, or what the target has
    lanes         samples that a loop over a batch computes at once: some vectors of them
    lanes_data    the same of an engine, whose loops each have one sum a sample
    far_lanes     the same where the weights are too many for the cache, 0 where no other
    alone_lanes   the same where most edges are of rows by themselves, 0 where no other
    native        elements of a vector, 1 where there are none
    registers     vector registers
    lanes_rows    rows that `forward_batch` computes at a time
    block         rows that a table's loop computes side by side
    small         whether few bytes come first
    balanced      whether they do only where that is not much slower: unless few bytes are asked for
    native_sqrt   whether the square root is an instruction
    triple, vector_bits, index_bits, reach, assembles, flash, divides, attributes   as `Target`
                  says them
    """

    dtype: str
    numerics: str
    lanes: int
    lanes_data: int
    far_lanes: int
    alone_lanes: int
    native: int
    registers: int
    lanes_rows: int
    block: int
    small: bool
    balanced: bool
    native_sqrt: bool
    triple: str
    vector_bits: int
    index_bits: int
    reach: int
    assembles: int
    flash: int
    divides: bool
    attributes: str


def options(target: Target, *, dtype: Any = None, numerics: str | None = None,
            name: str = "net", small: bool | None = None, **more: Any) -> dict[str, Any]:
    """The passes' options for a target, those of `more` instead of what is derived; `name` begins
    the symbols. NccError E603 as `derive` says."""
    found = derive(target, dtype_name("f32" if dtype is None else dtype), numerics, small,
                   longer="lanes" not in more)
    return {**vars(found), "name": name, **more}


def derive(target: Target, dtype: str, numerics: str | None = None, small: bool | None = None,
           longer: bool = True) -> Derived:
    """`numerics` None is fused where the target can, else strict; `small` asks for the fewest
    bytes, None where the target is one of few bytes; `longer` says whether some loops may have more
    lanes than others.

    NccError E603 where fused is asked of a target without an FMA (fast is strict there), or a dtype
    that its compilers do not have.
    """
    if numerics not in (None, "strict", "fused", "fast"):
        raise NccError("E603", f"no numerics {numerics}", help="strict, fused or fast")
    if dtype not in target.dtypes:
        raise NccError("E603", f"{target.name} has no {dtype}: its compilers' double is a float",
                       help="--dtype f32")
    has_fma = dtype in target.fma
    if numerics == "fast" and not has_fma:
        numerics = "strict"
    if numerics == "fused" and not has_fma:
        raise NccError("E603", f"{target.name} has no {dtype} fused multiply-add",
                       help="--numerics strict")
    native = max(1, target.vector_bits // (32 if dtype == "f32" else 64))
    registers = target.registers
    wide = target.vector_bits > 256
    # Without an FPU the calls for an edge take so long that loops are as fast as straight code.
    balanced = small is None and target.small and has_fma
    small = target.small if small is None else small
    # Two or four vectors: enough sums under way at once, and little of the cache for a neuron.
    vectors = 1 if small else 2 if wide or registers <= 16 else 4
    more = 4 * native if native > 1 and vectors == 2 and longer else 0
    return Derived(
        dtype=dtype,
        numerics=numerics or ("fused" if has_fma else "strict"),
        lanes=vectors * native if native > 1 else 1,
        lanes_data=4 * native if native > 1 else 1,
        far_lanes=more if wide else 0,
        alone_lanes=0 if wide else more,
        native=native,
        registers=registers,
        # As many sums as half the registers hold: the other half is for sources and weights.
        lanes_rows=registers // 2 // vectors if native > 1 else 4,
        # Without an FPU each sum under way would take registers from the calls.
        block=1 if small or dtype in target.soft else 8,
        small=small,
        balanced=balanced,
        native_sqrt=dtype in target.sqrt,
        triple=target.triple,
        vector_bits=target.vector_bits,
        index_bits=target.index_bits,
        reach=target.reach,
        assembles=target.assembles,
        flash=target.flash,
        divides=target.divides,
        attributes=target.attributes + " optsize minsize" * small)
