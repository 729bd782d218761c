"""Where a batch moves tiles of columns between rows of samples and its own memory, and does nothing
else with them: what ncc's own assembly does (passes/emit/tile_assembly.py)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ncc.ir.ssa import Func


@dataclass(frozen=True)
class Columns:
    """Elements offset + k + `index` of a private buffer; with a `table` those that its elements
    offset + k + `index` say, and `beyond` on."""

    name: str
    offset: int
    index: int | None
    table: str = ""
    beyond: int = 0


@dataclass(frozen=True)
class Move:
    """A move of `count` columns, `into` private memory or back: elements offset + k + `index` of
    the buffer `name`, at an index that varies. `ops` are those that it takes the place of, but for
    the last store, where it stands."""

    into: bool
    count: int
    name: str
    offset: int
    index: int
    columns: Columns
    ops: frozenset[int]


def moves(func: Func, *, private: Collection[str], plain: Collection[str],
          tables: Collection[str], varying: list[bool], uses: list[int],
          aside: Callable[[int], bool]) -> Iterator[tuple[int, Move]]:
    """Each move, by its last store. Rows are in the `plain` buffers, columns in the `private` ones;
    `aside` tells which ops may stand between: of indices and tables."""
    ops, at = func.ops, 0
    while at < len(ops):
        opcode, reads, imm = ops[at]
        begin = at
        at += 1
        loads = opcode == "load"
        if (not (loads or opcode == "store") or len(reads) != 2 - loads or imm[0] not in plain
                or not varying[reads[-1]] or ops[reads[-1]][0] not in ("for", "iadd", "imul")):
            continue
        while at < len(ops) and ops[at][0] == opcode and ops[at][1][-1:] == reads[-1:] and (
                ops[at][2] == (imm[0], imm[1] + at - begin)):
            at += 1
        run = range(begin, at)
        others = stored(func, run, aside) if loads else [ops[k][1][0] for k in run]
        values = run if loads else others
        if len(others) != len(run) or len(run) < 2 or any([
                uses[v] != 1 or ops[v][0] != "load" for v in values]) or any([
                ops[k][2][0] not in private for k in others]):
            continue
        if not loads:
            between = set(range(min(others), begin)) - set(others)
            if len(set(others)) != len(run) or not all(map(aside, between)):
                continue
        found = columns(func, others, tables, varying)
        if found is None:
            continue
        last = others[-1] if loads else at - 1
        listed = [ops[k][1][-1] for k in others] if found.table else []
        mine = {*run, *others, *[k for k in listed if uses[k] == 1]} - {last}
        yield last, Move(loads, len(run), imm[0], imm[1], reads[-1], found, frozenset(mine))


def stored(func: Func, run: range, aside: Callable[[int], bool]) -> list[int]:
    """The stores behind the loads `run`, of each value in turn."""
    found: list[int] = []
    for at in range(run.stop, len(func.ops)):
        opcode, reads, _ = func.ops[at]
        if len(found) == len(run):
            break
        if opcode == "store" and reads[0] == run.start + len(found):
            found.append(at)
        elif not aside(at):
            break
    return found


def columns(func: Func, others: list[int], tables: Collection[str], varying: list[bool]
            ) -> Columns | None:
    """What these loads or stores of private memory are of, one after the other."""
    ops = func.ops
    name, offset = ops[others[0]][2]
    indices = [ops[k][1][1 if ops[k][0] == "store" else 0 :] for k in others]
    if any([ops[k][2][0] != name for k in others]):
        return None
    if any([varying[r] for i in indices for r in i]):
        return None
    if len(set(indices)) == 1 and all([
            ops[k][2][1] == offset + c for c, k in enumerate(others)]):
        return Columns(name, offset, indices[0][0] if indices[0] else None)
    if not all(indices) or any([ops[k][2][1] != offset for k in others]):
        return None
    cells = [ops[i[0]] for i in indices]
    table, first = cells[0][2] if cells[0][0] == "load" else ("", 0)
    if table in tables and all([cell == ("load", cells[0][1], (table, first + c))
                                for c, cell in enumerate(cells)]):
        return Columns(name, first, cells[0][1][0] if cells[0][1] else None, table, offset)
    return None
