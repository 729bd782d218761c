"""Tiles that change between rows and columns, as x86-64 assembly: LLVM takes long over shuffles,
and over addresses of so many rows.

What is within 128 bits is turned first: squares of four singles or of two doubles. In vectors of
256 bits their places are right from the start, as each half is loaded from another row, the second
by an instruction that inserts what it loads. In those of 512 bits, whose loads are whole rows,
quarters change places at last: inserts of 128 bits are no cheaper there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WIDTHS = {16: "xmm", 32: "ymm", 64: "zmm"}  # bytes of a vector: its registers
INDEX, COUNT = "rax", "rcx"
_CELLS = {1: "movzbl {}, %eax", 2: "movzwl {}, %eax", 4: "movslq {}, %rax"}


class Places(NamedTuple):
    """Where the vectors of a tile begin: number k at `base` + k * `stride`; with `cells` at `base`
    + `stride` * cell number k of those, of so many `bytes` each. `base` and `cells` are registers,
    `stride` is in bytes. A tile may begin `offset` bytes further on, and at number
    `first`."""

    base: str
    stride: int
    cells: str = ""
    bytes: int = 4
    offset: int = 0
    first: int = 0

    def at(self, k: int) -> tuple[list[str], int, str]:
        """The instructions that find number k, and its address: a distance from another."""
        k += self.first
        if not self.cells:
            return [], self.offset + k * self.stride, f"({self.base})"
        lines = [_CELLS[self.bytes].format(f"{k * self.bytes}({self.cells})")]
        if self.stride in (1, 2, 4, 8):
            return lines, self.offset, f"({self.base},%{INDEX},{self.stride})"
        lines.append(f"imulq $${self.stride}, %{INDEX}, %{INDEX}"
                     if self.stride & self.stride - 1
                     else f"shlq $${self.stride.bit_length() - 1}, %{INDEX}")
        return lines, self.offset, f"({self.base},%{INDEX})"


def turned(size: int, lanes: int, sources: Sequence[Places], targets: Sequence[Places],
           order: Sequence[int], tiles: int, moved: Sequence[tuple[str, int]]) -> list[str]:
    """The instructions, in the syntax of AT&T as LLVM's inline assembly has it, that turn `tiles`
    times tiles of `lanes` x `lanes` elements of `size` bytes: for each of `sources` and of
    `targets` one, whose vectors are stored in this `order`. After each time the registers `moved`
    move by so many bytes. A vector is 128 bits or more."""
    lines = [f"movl $${tiles}, %e{COUNT[1:]}", "1:"] if tiles > 1 else []
    for source, target in zip(sources, targets, strict=True):
        lines += _tile(size, lanes, source, target, order)
    if tiles > 1:
        lines += [f"addq $${far}, {register}" for register, far in moved]
        lines += [f"decl %e{COUNT[1:]}", "jne 1b"]
    return lines


def registers(size: int, lanes: int) -> list[str]:
    """The registers that `turned` changes."""
    kind = WIDTHS[size * lanes]
    free = 4 if kind == "zmm" else 16 // size
    return [INDEX, COUNT, *[f"{kind}{k}" for k in range(lanes + free)]]


def _tile(size: int, lanes: int, source: Places, target: Places, order: Sequence[int]
          ) -> list[str]:
    kind = WIDTHS[size * lanes]
    side = 16 // size  # of the squares within 128 bits
    whole = kind != "ymm"
    lines: list[str] = []
    for k in range(lanes):
        found, distance, register = source.at(k)
        lines += found
        if whole:
            lines.append(f"vmovups {distance or ''}{register}, %{kind}{k}")
            continue
        half, row = divmod(k, side)
        for q in range(2):
            here, to = f"{distance + 16 * q or ''}{register}", q * side + row
            lines.append(f"vinsertf128 $$1, {here}, %ymm{to}, %ymm{to}" if half
                         else f"vmovups {here}, %xmm{to}")
    steps, held = _steps(size, lanes, whole)
    lines += [f"{name} %{kind}{b}, %{kind}{a}, %{kind}{to}" for name, a, b, to in steps]
    for k in order:
        found, distance, register = target.at(k)
        lines += [*found, f"vmovups %{kind}{held[k]}, {distance or ''}{register}"]
    return lines


def in_registers(size: int, lanes: int) -> tuple[list[str], list[int]]:
    """The instructions that turn the tile whose rows are the first `lanes` operands, with the four
    behind them free; and which operand then holds each column."""
    steps, held = _steps(size, lanes, True)
    return [f"{name} ${b}, ${a}, ${to}" for name, a, b, to in steps], held


def _steps(size: int, lanes: int, whole: bool
           ) -> tuple[list[tuple[str, int, int, int]], list[int]]:
    """The shuffles that turn the tile in the registers 0, 1, .., with four free ones behind them;
    and which then holds each column. Unless the rows are `whole`, halves are at their place."""
    side = 16 // size  # of the squares within 128 bits
    held = list(range(lanes))
    free = list(range(lanes, lanes + 4))
    steps = []
    for q in range(0, lanes, side):
        square = held[q : q + side]
        steps += _square(square, free)
        held[q : q + side] = square
    if lanes == 4 * side:
        for row in range(side):
            steps += _quarters(held[row::side], free)
    elif lanes == 2 * side and whole:
        for row in range(side):
            a, b, t = held[row], held[row + side], free[0]
            steps += [("vperm2f128 $$0x20,", a, b, t), ("vperm2f128 $$0x31,", a, b, b)]
            held[row], free[0] = t, a
    return steps, held


def _square(rows: list[int], free: list[int]) -> list[tuple[str, int, int, int]]:
    """The shuffles that turn the square in the registers `rows`, with some `free` ones: both
    change."""
    if len(rows) == 2:
        (a, b), t = rows, free[0]
        rows[0], free[0] = t, a
        return [("vunpcklpd", a, b, t), ("vunpckhpd", a, b, b)]
    (a, b, c, d), (t, u, v, w) = rows, free
    return [("vunpcklps", a, b, t), ("vunpckhps", a, b, u),
            ("vunpcklps", c, d, v), ("vunpckhps", c, d, w),
            ("vunpcklpd", t, v, a), ("vunpckhpd", t, v, b),
            ("vunpcklpd", u, w, c), ("vunpckhpd", u, w, d)]


def _quarters(rows: list[int], free: list[int]) -> list[tuple[str, int, int, int]]:
    """The shuffles that turn a square whose elements are quarters of the registers `rows`, with
    four `free` ones."""
    even, odd = "vshuff32x4 $$0x88,", "vshuff32x4 $$0xdd,"
    (a, b, c, d), (t, u, v, w) = rows, free
    return [(even, a, b, t), (odd, a, b, u), (even, c, d, v), (odd, c, d, w),
            (even, t, v, a), (even, u, w, b), (odd, t, v, c), (odd, u, w, d)]
