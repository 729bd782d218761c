"""The check of an image as LLVM text: the function `engine_check` of an engine's object.

It is text beside the engine's because ssa has neither an early end nor results but reals, and in
the object, not in the header, so that every language and every target has it without a compiler.
All arithmetic is of 32 bits and without division: a count is compared with what is left before it
is added, so nothing wraps around, and the smallest devices call no runtime for it. Its reading in
numpy, with the reasons, is ncc/images/check.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from ncc.images.check import NUMBER, in_pairs, least_edges, most_levels, most_values
from ncc.images.image import ALIGN, AT, CODES, HEAD, MAGIC, VERSION
from ncc.images.kinds import Kinds
from ncc.ir.ssa import DTYPES

CRC = 0xEDB88320  # the polynomial of CRC-32, the lowest bit first
FULL = (1 << 32) - 1


def check_text(name: str, kinds: Kinds, dtype: str, *, lanes: int, index_bits: int, elf: bool
               ) -> str:
    """The definition of NAME_engine_check(image, bytes), an int: 0, or the number of the reason for
    which the image is refused. To stand behind the engine's functions, whose attributes it has."""
    w = _Writer()
    size_t = f"i{index_bits}"
    w.refuse(w.op("icmp eq ptr %image, null"), "POINTER")
    number = w.op(f"ptrtoint ptr %image to {size_t}")
    off = w.op(f"and {size_t} {number}, {ALIGN - 1}")
    w.refuse(w.op(f"icmp ne {size_t} {off}, 0"), "POINTER")
    w.refuse(w.op(f"icmp ult {size_t} %bytes, {4 * HEAD}"), "SIZE")
    words = _head(w, dtype, size_t)
    _checksum(w, words)
    w.refuse_unless("eq", w.head("kinds"), kinds.digest, "KINDS")
    w.refuse_unless("eq", w.head("n_kinds"), len(kinds.kinds), "KINDS")
    _parts(w, kinds, words, DTYPES[dtype]().itemsize // 8)
    most = most_values(dtype, lanes, index_bits)
    w.refuse_unless("ule", w.head("rows"), most, "VALUES")
    left = w.op(f"sub i32 {most}, {w.head('rows')}")
    w.refuse_unless("ule", w.head("inputs"), left, "VALUES")
    _indices(w, kinds)
    section = f' section ".text.{name}_engine_check"' if elf else ""
    return (f"\ndefine i32 @{name}_engine_check(ptr noalias readonly %image, {size_t} %bytes) #2"
            f"{section} {{\nentry:\n" + "\n".join(w.lines) + "\n  ret i32 0\n"
            + "".join([f"{reason}:\n  ret i32 {NUMBER[reason]}\n" for reason in w.reasons]) + "}\n")


def _head(w: _Writer, dtype: str, size_t: str) -> str:
    """What says which image it is; its words, by its size."""
    w.refuse_unless("eq", w.head("magic"), MAGIC, "MAGIC")
    w.refuse_unless("eq", w.head("version"), VERSION, "VERSION")
    w.refuse_unless("eq", w.head("dtype"), CODES[dtype], "DTYPE")
    size = w.head("size")
    wide = size if size_t == "i32" else w.op(f"zext i32 {size} to {size_t}")
    w.refuse(w.op(f"icmp ugt {size_t} {wide}, %bytes"), "SIZE")
    w.refuse_unless("uge", size, 4 * HEAD, "SIZE")
    w.refuse_unless("eq", w.op(f"and i32 {size}, {ALIGN - 1}"), 0, "SIZE")
    return w.op(f"lshr i32 {size}, 2")


def _checksum(w: _Writer, words: str) -> None:
    with w.loop("0", words, str(FULL)) as k:
        own = w.op(f"icmp eq i32 {k.index}, {AT['checksum']}")
        word = w.op(f"select i1 {own}, i32 0, i32 {w.word(k.index)}")
        crc = w.op(f"xor i32 {k.carried}, {word}")
        with w.loop("0", "32", crc) as bit:
            low = w.op(f"sub i32 0, {w.op(f'and i32 {bit.carried}, 1')}")
            half = w.op(f"lshr i32 {bit.carried}, 1")
            bit.next = w.op(f"xor i32 {half}, {w.op(f'and i32 {low}, {CRC}')}")
        k.next = bit.carried
    w.refuse_unless("eq", w.op(f"xor i32 {k.carried}, {FULL}"), w.head("checksum"), "CHECKSUM")


def _parts(w: _Writer, kinds: Kinds, words: str, shift: int) -> None:
    """That parts lie in the block one behind the other; reals are 1 << shift words."""
    # So that no number of bounds, of rows or of starts wraps around.
    w.refuse_unless("ule", w.head("levels"), most_levels(kinds), "PARTS")
    w.refuse_unless("ult", w.head("rows"), words, "PARTS")
    count = w.op(f"mul i32 {w.head('levels')}, {len(kinds.kinds)}")
    bounds = w.op(f"add i32 {count}, 1")
    starts = w.op(f"add i32 {w.head('rows')}, 1")
    end = str(HEAD)

    def part(name: str, count: str, size: str) -> str:
        at = w.head(name)
        w.refuse_unless("uge", at, end, "PARTS")
        w.refuse_unless("ule", at, size, "PARTS")
        w.refuse_unless("ule", count, w.op(f"sub i32 {size}, {at}"), "PARTS")
        return w.op(f"add i32 {at}, {count}")

    for name, count in (("bounds", bounds), ("starts", starts), ("sources", w.head("edges")),
                        ("outs", w.head("outputs"))):
        end = part(name, count, words)
    if shift:
        end = w.op(f"lshr i32 {w.op(f'add i32 {end}, 1')}, 1")
        words = w.op(f"lshr i32 {words}, 1")
    for name, count in (("biases", w.head("rows")), ("weights", w.head("edges"))):
        end = part(name, count, words)


def _indices(w: _Writer, kinds: Kinds) -> None:
    many, inputs, rows = len(kinds.kinds), w.head("inputs"), w.head("rows")
    bounds, starts = w.head("bounds"), w.head("starts")
    count = w.op(f"mul i32 {w.head('levels')}, {many}")
    _ascend(w, bounds, count, rows, "BOUNDS")
    _ascend(w, starts, rows, w.head("edges"), "STARTS")
    if kinds.kinds:
        _rows_with_edges(w, kinds, bounds, starts, count)
        with w.loop("0", w.head("levels")) as level:
            at = w.op(f"add i32 {bounds}, {w.op(f'mul i32 {level.index}, {many}')}")
            first, last = w.word(at), w.word(w.op(f"add i32 {at}, {many}"))
            computed = w.op(f"add i32 {inputs}, {first}")
            from_, to = [w.word(w.op(f"add i32 {starts}, {row}")) for row in (first, last)]
            with w.loop(from_, to) as e:
                source = w.word(w.op(f"add i32 {w.head('sources')}, {e.index}"))
                w.refuse_unless("ult", source, computed, "SOURCES")
    values = w.op(f"add i32 {inputs}, {rows}")
    with w.loop("0", w.head("outputs")) as o:
        out = w.word(w.op(f"add i32 {w.head('outs')}, {o.index}"))
        w.refuse_unless("ult", out, values, "OUTS")


def _ascend(w: _Writer, part: str, count: str, last: str, reason: str) -> None:
    """That the words of a part ascend from 0 to the last, which is the count's."""
    w.refuse_unless("eq", w.word(part), 0, reason)
    second = w.op(f"add i32 {part}, 1")
    with w.loop("0", count, "0") as k:
        k.next = w.word(w.op(f"add i32 {second}, {k.index}"))
        w.refuse_unless("uge", k.next, k.carried, reason)
    w.refuse_unless("eq", k.carried, last, reason)


def _rows_with_edges(w: _Writer, kinds: Kinds, bounds: str, starts: str, count: str) -> None:
    """That rows of the kinds that want an edge have one, and those of pairs whole pairs."""
    least, paired, many = least_edges(kinds), in_pairs(kinds), len(kinds.kinds)
    if not any(least):
        return
    with w.loop("0", count, "0") as k:
        wanted = _among(w, k.carried, least)
        halves = _among(w, k.carried, paired) if any(paired) else ""
        at = w.op(f"add i32 {bounds}, {k.index}")
        with w.loop(w.word(at), w.word(w.op(f"add i32 {at}, 1"))) as row:
            start = w.op(f"add i32 {starts}, {row.index}")
            ends = w.word(w.op(f"add i32 {start}, 1"))
            empty = w.op(f"icmp eq i32 {w.word(start)}, {ends}")
            w.refuse(w.op(f"and i1 {wanted}, {empty}"), "EDGES")
            if halves:
                odd = w.op(f"trunc i32 {w.op(f'xor i32 {w.word(start)}, {ends}')} to i1")
                w.refuse(w.op(f"and i1 {halves}, {odd}"), "EDGES")
        following = w.op(f"add i32 {k.carried}, 1")
        again = w.op(f"icmp eq i32 {following}, {many}")
        k.next = w.op(f"select i1 {again}, i32 0, i32 {following}")


def _among(w: _Writer, number: str, chosen: Sequence[int]) -> str:
    """Whether a kind is among the chosen ones. Those of one aggregation stand side by side: a
    comparison or two, and no array."""
    among = "false"
    for choose, group in groupby(range(len(chosen)), key=chosen.__getitem__):
        numbers = list(group)
        if choose:
            from_first = w.op(f"sub i32 {number}, {numbers[0]}")
            here = w.op(f"icmp ult i32 {from_first}, {len(numbers)}")
            among = here if among == "false" else w.op(f"or i1 {among}, {here}")
    return among


@dataclass
class _Loop:
    """A loop that is open: its index, and the value carried from turn to turn, which `next` is set
    to. Behind the loop `carried` is the last one."""

    index: str
    carried: str
    next: str = ""


class _Writer:
    """Writes LLVM text, an instruction a line; operands are numbers or names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reasons: dict[str, None] = {}
        self.block = "entry"
        self.fresh = 0

    def name(self, prefix: str) -> str:
        self.fresh += 1
        return f"{prefix}{self.fresh}"

    def op(self, text: str) -> str:
        value = self.name("%v")
        self.lines.append(f"  {value} = {text}")
        return value

    def word(self, at: str) -> str:
        """The word of the image at an index, which is no negative number of 32 bits."""
        return self.op(f"load i32, ptr {self.op(f'getelementptr i32, ptr %image, i32 {at}')}, "
                       "align 4")

    def head(self, name: str) -> str:
        return self.word(str(AT[name]))

    def begin(self, block: str) -> None:
        self.block = block
        self.lines.append(f"{block}:")

    def refuse(self, condition: str, reason: str) -> None:
        self.reasons[reason] = None
        following = self.name("good")
        self.lines.append(f"  br i1 {condition}, label %{reason}, label %{following}")
        self.begin(following)

    def refuse_unless(self, comparison: str, a: str, b: str | int, reason: str) -> None:
        holds = self.op(f"icmp {comparison} i32 {a}, {b}")
        self.refuse(self.op(f"xor i1 {holds}, true"), reason)

    @contextmanager
    def loop(self, first: str, end: str, carried: str = "") -> Iterator[_Loop]:
        """A loop from `first` up to `end`."""
        test, body, done = self.name("test"), self.name("body"), self.name("done")
        made = _Loop(self.name("%i"), self.name("%c") if carried else "")
        before = self.block
        self.lines.append(f"  br label %{test}")
        self.begin(test)
        hole = len(self.lines)
        self.lines += [""] * (2 if carried else 1)
        more = self.op(f"icmp ult i32 {made.index}, {end}")
        self.lines.append(f"  br i1 {more}, label %{body}, label %{done}")
        self.begin(body)
        yield made
        following = self.op(f"add nuw i32 {made.index}, 1")
        self.lines.append(f"  br label %{test}")
        self.lines[hole] = (f"  {made.index} = phi i32 [ {first}, %{before} ], "
                            f"[ {following}, %{self.block} ]")
        if carried:
            self.lines[hole + 1] = (f"  {made.carried} = phi i32 [ {carried}, %{before} ], "
                                    f"[ {made.next}, %{self.block} ]")
        self.begin(done)
