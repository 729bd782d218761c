"""Every fault of a net file: its code and its place; and that nothing else ever comes out."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from ncc.errors import NccError, Source, Span, printable
from ncc.formats import weights
from ncc.formats.read import decode, net
from ncc.ir.graph import Graph
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve

ROOT = Path(__file__).parents[2]


def compile_graph(text: str | bytes, format: str = "nal", activation: int | str = 0,
                  outputs: str | None = None) -> Graph:
    source = decode("net", text) if isinstance(text, bytes) else Source("net", text)
    syntax = net(source, format)
    graph = resolve(syntax, activation=activation, outputs=outputs)
    return order(graph, syntax=syntax)


# code, line, column, text; in the text `~` is a line's end
NAL = [
    ("E137", 1, 1, ""),
    ("E137", 1, 1, "~ % nothing~~"),
    ("E104", 2, 1, "% a net~00~01 03 00"),
    ("E104", 1, 1, "fn 20 x~N 01~00"),
    ("E106", 1, 4, "N 0x~"),
    ("E001", 1, 2, "N"),
    ("E001", 1, 6, "N 02 03~00~01 03 00"),
    ("E105", 4, 1, "N 02~00~01 03 00~n 02"),
    ("E106", 3, 2, "N 02~00~0g 03 00"),
    ("E106", 3, 8, "N 02~00~01 03 0z"),
    ("E106", 3, 11, "N 02~00~01 03 00,0z"),
    ("E106", 3, 8, "N 02~00~01 03 0x0"),
    ("E001", 3, 10, "N 02~00~01 03 00,"),
    ("E001", 3, 10, "N 03~00~01 03 00,,01~02"),
    ("E001", 4, 10, "N 03~00~01~02 03 00 01"),
    ("E001", 3, 4, "N 02~00~01 \u00e9 00"),
    ("E107", 3, 10, "N 02~00~01 03 00:"),
    ("E107", 3, 10, "N 02~00~01 03 00:abc"),
    ("E107", 3, 10, "N 02~00~01 03 00:1_0"),
    ("E107", 3, 10, "N 02~00~01 03 00:0x"),
    ("E107", 3, 11, "N 02~00~01 03 00:=~"),
    ("E107", 3, 11, "N 02~00~01 03 00 +1e"),
    ("E107", 3, 10, "N 02~00~01 03 00 -0.5"),
    ("E108", 3, 10, "N 02~00~01 03 00:nan"),
    ("E108", 3, 11, "N 02~00~01 03 00:=-inf"),
    ("E108", 3, 11, "N 02~00~01 03 00 +inf"),
    ("E108", 3, 7, "N 02~00~01 03 00:1e999"),
    ("E108", 4, 14, "N 03~00~01~02 03 00:1 , 01:0x1p2000"),
    ("E108", 3, 10, "N 02~00~01 03 00 +1e999"),
    ("E109", 3, 10, "N 02~00~01 03 00@"),
    ("E109", 3, 10, "N 02~00~01 03 00@1k"),
    ("E109", 3, 13, "N 02~00~01 03 00@k0:=1"),
    ("E109", 3, 10, "N 02~00~01 03 00:@k0"),
    ("E110", 3, 7, "N 02~00~01 03 02"),
    ("E110", 4, 14, "N 03~00~01~02 03 00:1.5,123456789abcdef0123"),
    ("E110", 4, 1, "N 02~00~01 03 00~02"),
    ("E110", 3, 1, "N 02~00~ffffffffffffffffff"),
    ("E111", 1, 3, "N 04~00~01 03 00"),
    ("E111", 3, 1, "N 03~00~02 03 00"),
    ("E112", 4, 2, "N 03~00~01 03 00~ 01 03 00"),
    ("E113", 4, 1, "N 03~00~02 03 00~01"),
    ("E113", 5, 1, "N 05~00~01~04 03 00~03 03 00~02 03 00"),
    ("E112", 5, 1, "N 05~00~03~04~03~01~02"),
    ("E112", 4, 1, "N 04~00~02~02~01~03"),
    ("E112", 3, 1, "N 03~00~00~01"),
    ("E113", 3, 1, "N 03~02~01~00"),
    ("E110", 4, 1, "N 03~00~02~07~01"),
    ("E112", 5, 1, "N 03~00~01~02~01"),
    ("E111", 3, 1, "N 05~00~02~04~03"),
    ("E001", 3, 3, "N 02~00~01\r03 00"),
    ("E001", 1, 5, "N 02\r00\r01 03 00\r"),
    ("E001", 2, 8, "N 02~fn 20 x\r+1~00~01 20 00"),
    ("E137", 1, 1, "% all in one line\rN 02\r00"),
    ("E114", 3, 10, "N 02~00~01 03 00,01"),
    ("E115", 4, 13, "N 03~00~01~02 03 01,00,01"),
    ("E115", 4, 12, "N 03~00~01~02 03 01 , 01"),
    ("E116", 4, 1, "N 04~00~01 03 00,03~02 03 03~03 03 02"),
    ("E118", 3, 4, "N 02~00~01 rellu 00"),
    ("E118", 3, 4, "N 02~00~01 20 00"),
    ("E118", 3, 4, "N 02~00~01 mul 00"),
    ("E119", 3, 7, "N 02~00~01 03 prod 00"),
    ("E138", 4, 11, "N 03~00~01~02 03 dot 00,01"),
    ("E138", 4, 17, "N 03~00~01~02 03 dot 00*01,01"),
    ("E138", 4, 7, "N 03~00~01~02 03 00*01"),
    ("E138", 4, 14, "N 03~00~01~02 03 max 00,00*01:0.5"),
    ("E139", 4, 11, "N 03~00~01~02 03 dot 00*"),
    ("E139", 4, 11, "N 03~00~01~02 03 dot *01"),
    ("E139", 4, 16, "N 03~00~01~02 03 dot 00*01*00"),
    ("E139", 4, 11, "N 03~00~01~02 03 dot 00:0.5*01"),
    ("E139", 4, 14, "N 03~00~01~02 03 dot 00 *01"),
    ("E139", 4, 16, "N 03~00~01~02 03 dot 00*01=1"),
    ("E114", 4, 14, "N 03~00~01~02 03 dot 00*02"),
    ("E110", 4, 14, "N 03~00~01~02 03 dot 00*03"),
    ("E122", 4, 7, "N 03~00~01~02 03 dot +1"),
    ("E120", 4, 4, "N 03~00~01~02 00,01"),
    ("E120", 4, 4, "N 03~00~01~02 00 , 01"),
    ("E120", 3, 4, "N 02~00~01 00:0.5"),
    ("E120", 3, 4, "N 02~00~01 +0.5"),
    ("E121", 3, 4, "N 02~00~01 03"),
    ("E122", 3, 7, "N 02~00~01 03 mul +0.5"),
    ("E122", 3, 7, "N 02~00~01 03 max"),
    ("E125", 4, 14, "N 03~00~01~02 03 00@k:1,01@k:1"),
    ("E125", 3, 14, "N 02~00~01 03 00@k:1 +@k:2"),
    ("E126", 2, 4, "N 02~fn 1f x~00~01 03 00"),
    ("E127", 3, 4, "N 02~fn 20 x~fn 020 -x~00~01 03 00"),
    ("E135", 2, 6, "N 02~fn 20~00~01 03 00"),
    ("E106", 2, 5, "N 02~fn 2g x~00~01 03 00"),
    ("E201", 2, 9, "N 02~fn 20 1+y~00~01 20 00"),
    ("E001", 2, 8, "N 02~fn 20 (~00~01 20 00"),
    ("E128", 3, 1, "N 02~out 01~out 01~00~01 03 00"),
    ("E129", 2, 8, "N 02~out 01,1~00~01 03 00"),
    ("E130", 2, 5, "N 02~out 02~00~01 03 00"),
    ("E106", 2, 9, "N 02~out 01,0h~00~01 03 00"),
    ("E001", 2, 4, "N 02~out~00~01 03 00"),
    ("E131", 1, 3, "N 02~00~01"),
    ("E131", 1, 3, "N 0"),
    ("E106", 3, 3, "N 02~00~01\x0c03 00"),
    ("E001", 3, 8, "N 02~00~01 03 `"),
    ("E106", 3, 8, "N 02~00~01 03 ``00"),
    ("E110", 3, 7, "N 02~00~01 03 `02"),
    ("E115", 3, 14, "N 02~00~01 03 `00,00,`00"),
    ("E120", 3, 4, "N 02~00~01 `00,`01"),
]
NEL = [
    ("E110", 2, 1, "N 02~02 01"),
    ("E110", 2, 4, "N 02~00 02"),
    ("E106", 2, 5, "N 02~00 0g"),
    ("E001", 2, 6, "N 02~00 01\r02 03"),
    ("E106", 2, 1, "N 02~xyz 01"),
    ("E001", 2, 3, "N 02~00"),
    ("E107", 2, 7, "N 02~00 01 zz"),
    ("E108", 2, 7, "N 02~00 01 nan"),
    ("E108", 2, 7, "N 02~00 01 1e999"),
    ("E109", 2, 8, "N 02~00 01 @0k"),
    ("E001", 2, 11, "N 02~00 01 0.5 0.5"),
    ("E114", 3, 1, "N 02~00 01~01 01"),
    ("E115", 4, 1, "N 03~00 02~01 02~00 02"),
    ("E116", 2, 4, "N 03~00 01~02 01~01 02"),
    ("E117", 1, 3, "N e8d4a51000~00 01"),
    ("E117", 1, 3, "N " + "f" * 400 + "~00 01"),
    ("E118", 2, 8, "N 02~act 01 relo~00 01"),
    ("E121", 2, 5, "N 02~act 00 relu~00 01"),
    ("E121", 2, 5, "N 02~act 00-01 relu~00 01"),
    ("E136", 2, 5, "N 03~act 02-01 relu~00 01~00 02"),
    ("E110", 2, 5, "N 02~act 01-02 relu~00 01"),
    ("E106", 2, 5, "N 02~act 01-0g relu~00 01"),
    ("E001", 2, 4, "N 02~act~00 01"),
    ("E123", 3, 6, "N 02~bias 01 +1~bias 01 +2~00 01"),
    ("E124", 3, 5, "N 02~agg 01 mul~agg 01 mul~00 01"),
    ("E110", 2, 6, "N 02~bias 02 +1~00 01"),
    ("E107", 2, 9, "N 02~bias 01 0.5~00 01"),
    ("E001", 2, 11, "N 02~bias 01 + 1~00 01"),
    ("E108", 2, 6, "N 02~bias 01 +1e999~00 01"),
    ("E119", 2, 8, "N 02~agg 01 sun~00 01"),
    ("E138", 3, 1, "N 03~agg 02 dot~00 02"),
    ("E138", 2, 1, "N 03~00*01 02"),
    ("E139", 2, 1, "N 03~00* 02"),
    ("E139", 2, 6, "N 03~00*01*01 02"),
    ("E001", 2, 6, "N 03~00*01"),
    ("E122", 2, 5, "N 03~agg 02 mul~00 01"),
    ("E125", 3, 1, "N 03~00 01 @k:1~00 02 @k:1"),
    ("E131", 1, 3, "N 02"),
    ("E001", 2, 2, "N 02~` 01"),
    ("E106", 2, 2, "N 02~``00 01"),
    ("E106", 2, 4, "N 02~00 `01"),
    ("E110", 2, 1, "N 02~`02 01"),
    ("E115", 3, 1, "N 02~`00 01~`00 01"),
]
NAM = [
    ("E137", 1, 1, "# nothing"),
    ("E001", 2, 4, "011~001\r000"),
    ("E132", 2, 1, "010~01~000"),
    ("E132", 3, 3, "abc~a|010~b|01~c|000"),
    ("E133", 3, 1, "01~00~00"),
    ("E133", 2, 1, "010~000"),
    ("E134", 2, 2, "010~020~000"),
    ("E134", 2, 4, "01~a|0x"),
    ("E137", 1, 1, "nn~"),
    ("E114", 2, 2, "01~01"),
    ("E116", 1, 1, "010~001~100"),
    ("E131", 1, 1, "00~00"),
]
# Lines of both: with a net behind them.
HEADS = [
    ("E150", 2, 1, "label 00"),
    ("E150", 2, 1, "label zz eye"),
    ("E150", 2, 1, "label 00 eye brow"),
    ("E150", 2, 1, 'label 00 "eye'),
    ("E150", 2, 1, 'label 00 "\\q"'),
    ("E150", 2, 1, 'label 00 ""'),
    ("E150", 2, 1, 'label 00 "\\n"'),
    ("E150", 2, 1, 'label 00 "\\ud800"'),
    ("E150", 2, 1, "label 00 eye 0x2"),
    ("E150", 2, 1, "label 00 eye 2x"),
    ("E150", 2, 1, "label 00 eye " + "x".join(["1"] * 33)),
    ("E151", 3, 1, "label 00 eye~label 03 nose"),
    ("E151", 2, 1, "label 00 eye 2x2"),
    ("E151", 2, 1, "label " + "f" * 40 + " eye"),
    ("E151", 2, 1, "label 00 eye " + "x".join(["9" * 10] * 32)),
    ("E152", 4, 1, "label 00 eye~label 01 nose~label 02 eye"),
    ("E153", 2, 10, "numerics exact"),
    ("E153", 2, 9, "numerics"),
    ("E001", 2, 17, "numerics strict fused"),
    ("E153", 2, 7, "dtype f16"),
    ("E153", 2, 7, "dtype 64"),
    ("E154", 3, 1, "dtype f64~dtype f64"),
    ("E154", 4, 1, "numerics fused~dtype f64~numerics strict"),
    ("E106", 2, 1, "labels 00 eye"),
    ("E106", 2, 1, "numeric strict"),
]
BEHIND = {"nal": "00~01~02 03 00,01", "nel": "00 02~01 02"}
CASES = [(format, code, line, column, f"N 03~{text}~{net}") for code, line, column, text in HEADS
         for format, net in BEHIND.items()]
CASES += [("nal", *c) for c in NAL] + [("nel", *c) for c in NEL] + [("nam", *c) for c in NAM]


@pytest.mark.parametrize("format, code, line, column, text", CASES)
def test_code_and_place(format: str, code: str, line: int, column: int, text: str) -> None:
    with pytest.raises(NccError) as caught:
        compile_graph(text.replace("~", "\n").replace("`", "~"), format)
    error = caught.value
    assert (error.code, error.line, error.column) == (code, line, column), str(error)
    assert error.status == 1
    assert str(error).startswith(f"net:{line}:{column}: error[{code}]: ")


@pytest.mark.parametrize("edge, shown", [
    ("07:1.5", "07"), ("07@k", "07"), ("dot 00*07:1.5", "07"), ("dot 07*00@k", r"07\*00"),
])
def test_an_index_out_of_range_is_said_without_its_weight(edge: str, shown: str) -> None:
    with pytest.raises(NccError, match=rf"error\[E110\]: index {shown} is out of range"):
        compile_graph(f"N 02\n00\n01 03 {edge}")


def test_every_code_is_told_to_users() -> None:
    told = re.findall(r"^\| (E\d+) \|", (ROOT / "grammar" / "README.md").read_text(), re.M)
    assert len(told) == len(set(told))
    elsewhere = {"E102", "E103", "E111", "E140", "E141", "E142", "E143", "E144"}
    assert {c[1] for c in CASES} | elsewhere <= set(told)


def test_a_cycle_prints_its_path() -> None:
    with pytest.raises(NccError, match="a cycle: 01 -> 03 -> 02 -> 01\n"):
        compile_graph("N 04\n00\n01 03 00,02\n02 03 03\n03 03 01")


def test_a_long_cycle_is_shortened() -> None:
    lines = ["N 400", *(f"{j:x} 0 {(j + 1) % 1024:x}" for j in range(1024))]
    with pytest.raises(NccError) as caught:
        compile_graph("\n".join(lines))
    assert "000 -> 3ff -> 3fe" in caught.value.message and "..." in caught.value.message
    assert caught.value.message.endswith("-> 000") and "1024" in caught.value.note


@pytest.mark.parametrize("text, help", [
    ("N 02\n00\n01 rellu 00", "relu"), ("N 02\n00\n01 03 maxabbs 00", "maxabs"),
    ("N 02\n00\n01 mul 00", "after the activation"),
])
def test_help_names_the_nearest(text: str, help: str) -> None:
    with pytest.raises(NccError) as caught:
        compile_graph(text)
    assert help in caught.value.help


@pytest.mark.parametrize("data, line, column", [
    (b"\xff", 1, 1), (b"N 02\n00 % caf\xe9\n", 2, 9), (b"\xc3\xa9\xc3\n", 1, 2),
])
def test_bytes_that_are_not_text(data: bytes, line: int, column: int) -> None:
    with pytest.raises(NccError) as caught:
        decode("net", data)
    assert (caught.value.code, caught.value.line, caught.value.column) == ("E103", line, column)


def test_carriage_returns_before_a_line_end_are_dropped() -> None:
    """One or several, at the end of the text too; in a comment anything may stand."""
    plain = "N 03\n00\n01 03 00\n02 tanh 01 % a note\n"
    for text in (plain.replace("\n", "\r\n"), plain.replace("\n", "\r\r\n"), plain[:-1] + "\r",
                 plain.replace("a note", "a\rnote")):
        for given in (text, text.encode()):
            assert str(compile_graph(given)) == str(compile_graph(plain))


@pytest.mark.parametrize("line, column", [("\r07", 2), ("00 \x07\x08 zz", 4), ("0\u20281 +", 2)])
def test_carets_stand_under_what_is_shown_as_an_escape(line: str, column: int) -> None:
    error = NccError("E001", "m", Source("net", line), Span(1, column, 1))
    _, shown, carets = str(error).split("\n")
    escaped = printable(line[column - 1])
    assert shown[carets.index("^") : len(carets)] == escaped
    assert carets.strip() == "^" * len(escaped)


@pytest.mark.parametrize("format, text", [("nal", "N e8d4a51000\n00\n"),
                                          ("nal", "N " + "f" * 30 + "\n00\n")])
def test_a_great_count_is_refused_by_what_the_file_holds(format: str, text: str) -> None:
    with pytest.raises(NccError) as caught:
        compile_graph(text, format)
    assert (caught.value.code, caught.value.line, caught.value.column) == ("E111", 1, 3)


@pytest.mark.parametrize("option, code", [("02", "E130"), ("0g", "E130"), ("", "E130"),
                                          ("01,1", "E129")])
def test_the_outputs_option(option: str, code: str) -> None:
    with pytest.raises(NccError) as caught:
        compile_graph("N 02\n00\n01 03 00", outputs=option)
    assert (caught.value.code, caught.value.status) == (code, 2)


@pytest.mark.parametrize("option", ["relus", "20", 32, -1, "-1", " 3", "0_3", ""])
def test_the_activation_option(option: int | str) -> None:
    with pytest.raises(NccError) as caught:
        compile_graph("01\n00", "nam", activation=option)
    assert (caught.value.code, caught.value.status) == ("E118", 2)


def test_an_unknown_format() -> None:
    with pytest.raises(NccError) as caught:
        net(Source("net", "N 0"), "nat")
    assert (caught.value.code, caught.value.status) == ("E102", 2)


# Weights ----------------------------------------------------------------------------------------


def test_weights_from_every_kind_of_file(tmp_path: Path) -> None:
    want = np.array([0.5, -1.25, 3.0])
    np.save(tmp_path / "w.npy", want.astype(np.float32))
    np.savez(tmp_path / "w.npz", params=want)
    (tmp_path / "w.txt").write_text("0.5\n\n -0x1.4p0 # a comment\r\n3")
    for name in ("w.npy", "w.npz", "w.txt"):
        loaded = weights.load(tmp_path / name, 3)
        assert loaded.dtype == np.float64 and loaded.tolist() == want.tolist()


def test_faults_of_weight_files(tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.zeros((2, 2)))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "object.npy", np.array([None], object))
    np.save(tmp_path / "nan.npy", np.array([0, np.nan]))
    np.savez(tmp_path / "other.npz", weights=np.zeros(2))
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 and nothing more")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\1\0\x10\0{'descr':")
    for name, text in (("word", "0.5\n x"), ("nan", "0\nnan"), ("huge", "1\n1e999"),
                       ("short", "1"), ("binary", "\udcff")):
        (tmp_path / name).write_text(text, errors="surrogateescape")
    faults = {"two.npy": "E140", "text.npy": "E140", "object.npy": "E140", "nan.npy": "E142",
              "other.npz": "E140", "bad.npz": "E140", "bad.npy": "E140", "word": "E143",
              "nan": "E142", "huge": "E142", "short": "E141", "binary": "E103",
              "absent": "E140"}
    for name, code in faults.items():
        with pytest.raises(NccError) as caught:
            weights.load(tmp_path / name, 2)
        assert caught.value.code == code, name
    with pytest.raises(NccError, match="1 values.* 2 parameters"):
        weights.load(tmp_path / "short", 2)
    with pytest.raises(NccError) as caught:
        weights.load(tmp_path / "word", 2)
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_init_fills_only_what_is_missing() -> None:
    graph = compile_graph("N 04\n00\n01\n02 03 00:7,01 +\n03 03 02,00@k,01@k")
    assert np.isnan(graph.values).tolist() == [False, True, True, True, True]
    for rule in ("he", "xavier", "uniform", "shared:0.25"):
        filled = weights.init(graph, rule, 3)
        assert filled[0] == 7 and np.isfinite(filled).all()
        assert filled.tolist() == weights.init(graph, rule, 3).tolist()
        assert (filled[2] == 0) == (rule != "shared:0.25")
    assert weights.init(graph, "shared:0.25", 0)[1:].tolist() == [0.25] * 4
    assert weights.init(graph, "he", 1)[1] != weights.init(graph, "he", 2)[1]


def test_init_has_the_variance_of_its_rule() -> None:
    # 64 inputs into 256 neurons: fan-in 64, fan-out 256, 16384 draws.
    lists = ",".join(f"{i:x}" for i in range(64))
    text = "\n".join(["N 140", *(f"{i:x}" for i in range(64)),
                      *(f"{j:x} relu {lists}" for j in range(64, 320))])
    graph = compile_graph(text)
    assert np.var(weights.init(graph, "he", 0)) == pytest.approx(2 / 64, rel=0.05)
    assert np.var(weights.init(graph, "xavier", 0)) == pytest.approx(2 / 320, rel=0.05)
    uniform = weights.init(graph, "uniform", 0)
    assert np.abs(uniform).max() <= 1 / 8 < np.abs(uniform).max() * 1.01


@pytest.mark.parametrize("rule", ["", "hee", "he:1", "shared", "shared:", "shared:x", "shared:nan"])
def test_init_refuses_other_rules(rule: str) -> None:
    with pytest.raises(NccError) as caught:
        weights.init(compile_graph("N 02\n00\n01 03 00"), rule, 0)
    assert (caught.value.code, caught.value.status) == ("E144", 2)


# Nothing but NccError ---------------------------------------------------------------------------

SEEDS = {
    "nal": b"N 08\nfn 20 1/(1+exp(-4.9*x))\nout 07,06\n00\n01 % in\n02\n03 relu 00:0.5, 01@k\n"
           b"04 20 mul 00:=1,02@k:0x1p3 +@b\n05 00 +=1\n06 03 03,04 +-.5\r\n07 3 maxabs 05,06\n",
    "nel": b"N 06\nfn 20 x^2\nact 02-03 20\nact relu\nbias 04 +@b:2\nagg 03 mul\n00 02 0.5\n"
           b"01 02 @k\n02 03 =1\n00 03\n03 04 @k:-1e-3\n04 05\n",
    "nam": b"  abcd\n  ----\na|0011\nb|0011\nc|0001\n0000\n",
}
PIECES = [b"0", b"f", b",", b":", b"@", b"=", b"+", b"-", b" ", b"\n", b"%", b"|", b"x", b"(", b"^",
          b"N", b"fn ", b"out ", b"act ", b"bias ", b"agg ", b"nan", b"1e999", b"\r", b"\t", b"\0",
          b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"_", b"max", b"99999999999999999999", b"k"]


@pytest.mark.parametrize("format", SEEDS)
def test_mutations_raise_nothing_else(format: str) -> None:
    dice = random.Random(format)
    seen = set()
    for _ in range(3000):
        data = bytearray(SEEDS[format])
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            end = at + dice.choice([0, 1, 1, 3, 20])
            data[at:end] = dice.choice([b"", dice.choice(PIECES), bytes(data[at:end]) * 2])
        try:
            graph = compile_graph(bytes(data), format)
            assert str(net(decode("net", bytes(data)), format)) and graph.levels is not None
            seen.add("fine")
        except NccError as error:
            assert str(error) and error.status in (1, 4) and error.line, bytes(data)
            seen.add(error.code)
    assert len(seen) > (4 if format == "nam" else 15), seen


@pytest.mark.parametrize("format", SEEDS)
def test_random_bytes_raise_nothing_else(format: str) -> None:
    dice = random.Random(format)
    for _ in range(1000):
        data = b"".join(dice.choices(PIECES, k=dice.randint(0, 30)))
        with pytest.raises(NccError):
            compile_graph(dice.choice([b"", b"N 02\n", b"00\n"]) + data + b"!", format)


def test_surrogates_in_text() -> None:
    with pytest.raises(NccError) as caught:
        compile_graph("N 02\n00\n01 03 00 \udcff")
    assert "\\udcff" in str(caught.value)
