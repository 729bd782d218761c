"""Addresses of elements of buffers and tables, of one or of the lanes of a vector."""

from __future__ import annotations

from ncc.passes.emit.llvm.writer import Stride, Writer


def address(w: Writer, name: str, offset: int, index: str | None, scale: int = 1) -> str:
    """The address of element (index + offset) * scale."""
    table = w.tables.get(name)
    base = f"@{w.module.name}.{name}" if table is not None else f"%{name}"
    element = element_type(w, name)
    if index is None:
        if offset == 0:  # a gep by 0 makes LLVM half as slow again over a whole function
            return base
        return w.add(f"getelementptr inbounds {element}, {pointer_type(w, name)} {base}, "
                     f"{w.index} {offset * scale}")
    if offset:
        index = w.add(f"add nsw {w.index} {index}, {offset}")
    if scale != 1:
        index = w.add(f"mul nsw {w.index} {index}, {scale}")
    return w.add(f"getelementptr inbounds {element}, {pointer_type(w, name)} {base}, "
                 f"{w.index} {index}")


def pointer_type(w: Writer, name: str) -> str:
    """The type of a pointer to a table or a buffer."""
    return w.table if name in w.tables else "ptr"


def element_type(w: Writer, name: str) -> str:
    """The type of the elements of a table or a buffer in memory."""
    table = w.tables.get(name)
    if name in w.indices:
        return "i32"
    if table is None or table.type == "f":
        return w.real
    return w.unit.cells[name] if table.type == "i" else f"i{w.bits}"


def of_turn(w: Writer, base: str) -> str:
    """The address of the vector whose turn it is, of the lanes at `base`."""
    return beside(w, base, w.part) if w.part else base


def beside(w: Writer, address: str, part: int | str) -> str:
    """The address of a part of the lanes: by its number, or its first lane's at run time."""
    if isinstance(part, str):
        return w.add(f"getelementptr inbounds {w.real}, ptr {address}, {w.index} {part}")
    return address if part == 0 else w.add(
        f"getelementptr inbounds {w.real}, ptr {address}, i64 {part * w.native}")


def pointer(w: Writer, at: int) -> tuple[str, int]:
    """The pointer from which the load or store at `at` is addressed, and how far from it."""
    name, element = w.func.ops[at][2]
    window = w.windows.get(at)
    if window is None:
        return f"%{name}", element
    if window.number == w.pointers:
        w.pointers += 1
        center = address(w, name, window.center, None)
        # No instruction, but one that LLVM does not look into: it would add up the distances.
        w.lines.append(f'  %w{window.number} = call ptr asm "", "=r,0"(ptr {center})')
    return f"%w{window.number}", element - window.center


def contiguous(w: Writer, index: int) -> bool:
    """Whether the lanes of every round lie side by side."""
    return w.open.whole and w.open.affine[index][0] == 1


def vector_addresses(w: Writer, name: str, offset: int, index: int) -> list[str]:
    """Where each vector of consecutive elements starts."""
    uniform = w.open.affine[index][1]
    first = w.open.step if uniform is None else w.add(f"add nsw {w.index} {uniform}, {w.open.step}")
    base = address(w, name, offset, first)
    kinds = f"{element_type(w, name)}, {pointer_type(w, name)}"
    return [base, *[w.add(f"getelementptr inbounds {kinds} {base}, {w.index} {part * w.native}")
                    for part in range(1, w.parts())]]


def lane_addresses(w: Writer, name: str, offset: int, index: int, part: int) -> list[str]:
    """The address of each lane of a part of the lanes."""
    stride, uniform = w.open.affine[index]
    element = element_type(w, name)
    base = address(w, name, offset, uniform)
    if w.open.whole:
        first = w.add(f"mul nsw {w.index} {w.open.step}, {stride}")
        base = w.add(f"getelementptr inbounds {element}, ptr {base}, {w.index} {first}")
        assert isinstance(stride, int)
        return [w.add(f"getelementptr inbounds {element}, ptr {base}, {w.index} "
                      f"{stride * lane}")
                for lane in range(part * w.native, (part + 1) * w.native)]
    base = first_lane(w, base, stride, element, pointer_type(w, name))
    if w.lanes == 1:
        return [base]
    lanes = [w.add(f"extractelement <{w.native} x i32> {w.open.offsets[stride][part]}, "
                   f"i64 {lane}") for lane in range(w.native)]
    return [w.add(f"getelementptr inbounds {element}, ptr {base}, i32 {lane}") for lane in lanes]


def first_lane(w: Writer, base: str, stride: Stride, element: str = "", to: str = "ptr") -> str:
    """The address of the element of the round's first sample."""
    return w.add(f"getelementptr inbounds {element or w.real}, {to} {base}, "
                 f"{w.index} {w.open.firsts[stride]}")


def all_addresses(w: Writer, name: str, offset: int, index: int, part: int) -> str:
    """A vector of the lanes' addresses, for machines that gather and scatter."""
    stride, uniform = w.open.affine[index]
    base = first_lane(w, address(w, name, offset, uniform), stride)
    return w.add(f"getelementptr inbounds {w.real}, ptr {base}, "
                 f"<{w.native} x i32> {w.open.offsets[stride][part]}")


def part_addresses(w: Writer, name: str, offset: int, index: int, part: str) -> list[str]:
    """`lane_addresses` of the part whose first lane has a number known at run time."""
    stride, uniform = w.open.affine[index]
    base = address(w, name, offset, uniform)
    i = w.index
    if w.open.whole:
        assert isinstance(stride, int)
        first = w.add(f"mul nsw {i} {w.add(f'add nsw {i} {w.open.step}, {part}')}, {stride}")
        base = w.add(f"getelementptr inbounds {w.real}, ptr {base}, {i} {first}")
        return [w.add(f"getelementptr inbounds {w.real}, ptr {base}, {i} "
                      f"{stride * lane}") for lane in range(w.native)]
    base = first_lane(w, base, stride)
    here = offset_of_lane(w, stride, part)
    found = []
    for lane in range(w.native):
        a = w.add(f"getelementptr inbounds i32, ptr {here}, i64 {lane}")
        far = w.add(f"load i32, ptr {a}, align 4")
        found.append(w.add(f"getelementptr inbounds {w.real}, ptr {base}, i32 {far}"))
    return found


def offset_of_lane(w: Writer, stride: Stride, lane: int | str) -> str:
    """The address of the offset of a lane, in an array of those of all."""
    places, hole = w.open.held[stride]
    if not w.lines[hole]:
        w.stack.append(f"  {places} = alloca [{w.lanes} x i32], align 64")
        v = f"<{w.native} x i32>"
        w.lines[hole] = "\n".join([
            f"  {places}_{p} = getelementptr inbounds i32, ptr {places}, i64 "
            f"{p * w.native}\n  store {v} {lanes}, ptr {places}_{p}, "
            f"align {4 * w.native}" for p, lanes in enumerate(w.open.offsets[stride])])
    return w.add(f"getelementptr inbounds i32, ptr {places}, {w.index} {lane}")
