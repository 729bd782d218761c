"""The rows of the opcodes, against what the readings of an op do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ncc.ir.ssa import Buffer, Func, Module, Op
from ncc.scalar.numpy_eval import EVALUATORS, Numpy
from ncc.scalar.opcodes import COMMUTES, CONTROL, EFFECTS, OPCODES, OPS, Opcode, takes

ROOT = Path(__file__).parents[2]
VALUES = {
    "f": np.array([0.0, -0.0, 1.0, -1.5, 3.0, np.inf, -np.inf, np.nan, 1e-30, 7e30], np.float32),
    "w": np.array([0, 1, 2, 3, 5, 17, 30, 31], np.int32),
    "i": np.array([1, 2, 3, 5, 8, 13]),
}


def test_a_name_is_one_row() -> None:
    assert not OPCODES.keys() & CONTROL.keys()
    assert all(name == row.name for name, row in OPS.items())


@pytest.mark.parametrize("column", ["imm", "effect"])
def test_the_words_of_a_column_are_those_that_are_explained(column: str) -> None:
    said = re.split(rf"^    {column} ", Opcode.__doc__ or "", flags=re.M)[1]
    said = re.split(r"^    [a-z]", said, flags=re.M)[0]
    explained = set(re.findall(r"`(\w*)`", said)) if column == "imm" else set(
        re.findall(r"^ {14}(\w+|``)  ", said, re.M))
    explained = {word.strip("`") for word in explained}
    assert {getattr(row, column) for row in OPS.values()} == explained


def test_what_makes_no_value_has_an_effect_or_controls() -> None:
    for row in OPS.values():
        if not row.result:
            assert row.effect in ("write", "call", "control"), row
        assert (row.name in EFFECTS) == (row.effect in ("write", "call"))
        assert row.name not in EFFECTS or not row.result, row


def test_what_an_op_reads() -> None:
    for opcode, types, good in [
            ("add", "ff", True), ("add", "fw", False), ("add", "f", False), ("add", "fff", False),
            ("select", "bff", True), ("select", "bww", True), ("select", "bfw", False),
            ("store", "f", True), ("store", "fi", True), ("store", "fw", False),
            ("store", "fii", False), ("accrue", "ffi", True), ("accrue", "f", False),
            ("load", "", True), ("load", "i", True), ("load", "f", False), ("for", "ii", True),
            ("carry", "w", True), ("carry", "ff", False), ("yield", "", True),
            ("yield", "fwi", True), ("apply", "", False), ("apply", "fff", True),
            ("apply", "fw", False), ("call", "i", False), ("const", "", True)]:
        assert takes(opcode, types) == good, (opcode, types)


@pytest.mark.parametrize("row", [o for o in OPCODES.values()
                                 if len(o.reads) > 1 and o.reads[0] == o.reads[1]],
                         ids=lambda row: row.name)
def test_an_op_commutes_where_numpy_says_so(row: Opcode) -> None:
    """Over all pairs, zeros with their signs: any NaN is as good as another."""
    first, second = np.meshgrid(VALUES[row.reads[0]], VALUES[row.reads[1]])
    others = [np.float32(0.75)] * (len(row.reads) - 2)

    def bits(a: object, b: object) -> bytes:
        made = (_index(row.name, a, b) if row.result == "i" else
                Numpy("f32", True).op(row.name, a, b, *others))
        return np.where(made != made, np.nan, made).tobytes()

    assert (bits(first, second) == bits(second, first)) == (row.name in COMMUTES)


def _index(name: str, a: object, b: object) -> np.ndarray:
    made: np.ndarray = EVALUATORS[name](a, b)
    return made


def test_the_grammar_names_every_op_that_is_no_arithmetic() -> None:
    grammar = (ROOT / "grammar/ssa.lark").read_text()
    (words,) = re.findall(r"^OTHER: /\(\?!\(\?:([a-z_|]+)\)", grammar, re.M)
    assert {*words.split("|"), "carry"} == set(CONTROL)


def test_the_verifier_tells_every_immediate_that_does_not_fit() -> None:
    """An op of each row with an immediate of another kind."""
    wrong = {"": 1, "real": 1, "int": 0.5, "lanes": -1, "table": "nothing", "buffer": "nothing",
             "place": "x", "func": None, "call": ("f",)}
    for row in OPS.values():
        index: Op = ("index", (), 0)
        real: Op = ("const", (), 1.0)
        reads = row.reads.removesuffix("i?").removesuffix("+").replace("...", "")
        if "w" in reads or "b" in reads or "*" in reads:
            continue  # the same kinds as others
        ops = [real if letter == "f" else index for letter in reads]
        ops.append((row.name, tuple(range(len(reads))), wrong[row.imm]))
        buffers = (Buffer("x", "in", 1),)
        with pytest.raises(Exception, match=f"{row.name} (is ill-formed|reads)") as caught:
            Module("m", "f32", "fused", (Func("f", buffers, ops),)).verify()
        assert type(caught.value).__name__ == "NccError", row
