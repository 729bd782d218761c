"""What an object takes of the machine that it is for: flash, the caller's memory, stack."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ncc.ir.ssa import Module
from ncc.machine.llvm import sections
from ncc.machine.targets import Target
from ncc.report.cost import Footprint

# The names of sections, by each format's custom, that become code and constants. Whatever else an
# object has stays out of the program.
CODE = (".text", "__text", "CODE")
TABLES = (".rodata", ".progmem", "__const", "__literal", ".rdata", "DATA", ".ARM.ex", ".eh_frame",
          ".pdata", ".xdata", "__compact_unwind", "__eh_frame")


def kind_of(section: str) -> str:
    """What a section becomes: code, tables, or nothing of the program."""
    return "code" if section.startswith(CODE) else "tables" if section.startswith(TABLES) else ""


def footprint(code: bytes, functions: Iterable[tuple[Mapping[str, int], int]], real: int,
              stacks: Mapping[str, int] | None) -> Footprint:
    """Of the object `code`, whose `functions` have these elements in each buffer and of work, each
    of `real` bytes, and take `stacks`."""
    shown = sections(code)
    held = list(functions)
    buffers = {name: size for named, _ in held for name, size in named.items()}
    trains, state = "lr" in buffers, buffers.get("state", 0)
    return Footprint(
        sum([n for name, n in shown if kind_of(name) == "code"]),
        sum([n for name, n in shown if kind_of(name) == "tables"]),
        buffers.get("packed", 0) * real,
        max([work for _, work in held], default=0) * real,
        (buffers.get("params", 0) + state) * real if trains else 0,
        0 if trains else state * real,
        max(stacks.values(), default=0) if stacks else None)


# `define internal fastcc void @net_forward_0(`, and the calls of functions that are defined.
_DEFINED = re.compile(r"^define [^@\n]*@([\w.]+)\(", re.MULTILINE)
_CALLED = re.compile(r"\bcallq ([\w.]+)")
_FRAME = re.compile(r"leaq -(\d+)\(%rsp\), %rsp")
_CALL = re.compile(r"\bcall [^@\n]*@([\w.]+)\(([^\n]*)")


def stacks(text: str, frames: Mapping[str, int], target: Target) -> dict[str, int] | None:
    """The bytes of stack that each function of LLVM's `text` may use, those that it calls included
    and its arguments not, from the `frames` that LLVM gave them; None where it gives none.

    What the compiler's runtime takes is not among them. Where LLVM does not tell all, these are
    bounds."""
    if target.triple.startswith("wasm"):
        return None
    starts = [(m.start(), m[1]) for m in _DEFINED.finditer(text)]
    ends = [*[at for at, _ in starts], len(text)][1:]
    calls = {name: [(c[1], c[2].count(",") + 1) for c in _CALL.finditer(text, at, end)]
             for (at, name), end in zip(starts, ends, strict=True)}
    frames = dict(frames)
    for (at, name), end in zip(starts, ends, strict=True):
        written = text.find('{\nentry:\n  call void asm sideeffect "', at, end)
        if written >= 0:  # ncc's own assembly, of which LLVM knows nothing (ncc/machine/x86.py)
            calls[name] = [(callee, 4) for callee in _CALLED.findall(text, written, end)]
            frames[name] = 8 * text.count("pushq", written, end) + sum(
                [int(n) for n in _FRAME.findall(text, written, end)])
    found: dict[str, int] = {}
    # No recursion, here or there: a function is done once all that it calls are.
    left = list(calls)
    while left:
        waiting = [name for name in left
                   if any(c in calls and c not in found for c, _ in calls[name])]
        for name in left:
            if name not in waiting:
                mine = [(c, n) for c, n in calls[name] if c in found]
                found[name] = _own(frames.get(name, 0), [n for _, n in mine], target) + max(
                    [found[c] for c, _ in mine], default=0)
        if len(waiting) == len(left):
            return None  # a circle, which no module has
        left = waiting
    return found


def _own(frame: int, arguments: Iterable[int], target: Target) -> int:
    """A function's own bytes, that calls others with so many `arguments`."""
    triple, counts = target.triple, list(arguments)
    if triple.startswith("avr"):  # the return address, which has 22 bits where flash is large
        return frame + (3 if target.cpu == "atmega2560" else 2)
    if not triple.startswith(("x86_64", "i686")):
        return frame  # the return address is a register, saved in the frame where it must be
    word = 8 if triple.startswith("x86_64") else 4
    own = frame + word
    if frame and target.vector_bits > 128:
        own += target.vector_bits // 8  # to where a vector may lie
    if word == 4:
        own += 4  # where it is: a call of the next instruction
    elif not counts and "windows" not in triple:
        own += 128  # below the stack pointer, where a leaf may write as well
    if counts:
        # What the registers do not take is pushed, in whole steps of 16 bytes.
        registers = 0 if word == 4 else 4 if "windows" in triple else 6
        shadow = 32 if "windows" in triple else 0
        own += max(-(-max(0, n - registers) * word // 16) * 16 for n in counts) + shadow
    return own


def exported(found: Mapping[str, int] | None, module: Module) -> dict[str, int]:
    """The stacks of a module's exported functions, by their names there."""
    return {f.name: found[f"{module.name}_{f.name}"] for f in module.funcs
            if f.exported} if found else {}
