"""The command from outside: every kind, option, exit status and message of the contract."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.driver import compiler as build
from ncc.driver import pipeline
from ncc.driver.compare import answers
from ncc.driver.kinds import KINDS
from ncc.driver.net_module import carried
from ncc.driver.settings import options
from ncc.errors import NccError, Source
from ncc.ir.graph import Graph
from ncc.ir.ssa import Module
from ncc.ir.ssa_text import read as read_ssa
from ncc.machine.llvm import Machine
from ncc.passes.ssa import fold as fold_file

NET = """N 06
00
01
02 03 00:0.5,01:-1.25
03 tanh 00:1,02:0.25 +0.1
04 tanh 00:1,02:0.25 +0.1
05 00 mul 03:1,04:2
"""
# A net with two neurons that must be equal: tied weights.
TWINS = """N 05
00
01
02 02 00@a:0.5,01@b:-1
03 02 00@a,01@b
04 03 02:1,03:-2
"""
CSV = "1,2\n0.5,-1\n\n 3 , 4\n"
PASSES = [step.name for step in pipeline.steps()]
TEXTS = ["ast", "graph", "plan", "ssa", "llvm", "asm", "header", "c", "fwd", "matrix", "weights",
         "dot", "svg"]
ENDINGS = {"llvm": "ll", "asm": "s", "header": "h", "obj": "o", "shared": "so"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text(NET)
    Path("twins.nal").write_text(TWINS)
    Path("x.csv").write_text(CSV)
    return tmp_path


def process(*words, **more):
    """The command as a process of its own."""
    more = {"capture_output": True, "text": True, "timeout": 60} | more
    return subprocess.run([sys.executable, "-m", "ncc", *map(str, words)], **more)


def files():
    return sorted(p.name for p in Path().iterdir() if p.name not in ("net.nal", "twins.nal",
                                                                    "x.csv"))


def expected(text=NET, rows=((1, 2), (0.5, -1), (3, 4)), **how):
    graph = ncc.parse(text).graph
    return graph.run(np.array(rows), graph.values, **how)


# ---- kinds and where they go


def test_a_net_of_inputs_has_no_formulas(ncc_):
    Path("inputs.nal").write_text("N 02\nout 00,01\n00\n01\n")
    assert ncc_("build", "inputs.nal", "--emit", "fwd") == (0, "", "")
    assert ncc_("build", "inputs.nal", "--emit", "fwd", "-o", "out.fwd") == (0, "", "")
    assert Path("out.fwd").read_bytes() == b""


@pytest.mark.parametrize("kind", TEXTS)
def test_text_goes_to_standard_output_or_to_a_file(ncc_, kind):
    status, out, _ = ncc_("build", "net.nal", "--emit", kind)
    assert (status, files()) == (0, []) and out.endswith("\n") and out.strip()
    assert ncc_("build", "net.nal", f"--emit={kind}", "-o", "-")[1] == out
    assert ncc_("build", "net.nal", "--emit", kind, "-o", "text")[:2] == (0, "")
    assert Path("text").read_text() == out
    Path("dir").mkdir()
    assert ncc_("build", "net.nal", "--emit", kind, "-o", "dir")[:2] == (0, "")
    assert Path("dir", "net." + ENDINGS.get(kind, kind)).read_text() == out


@pytest.mark.parametrize("kind, made", [
    ("obj", ["net.h", "net.o"]), ("shared", ["net.so"]), ("bc", ["net.bc"]),
    ("obj,header,obj", ["net.h", "net.o"]),
    ("fwd,llvm,asm", ["net.fwd", "net.ll", "net.s"]),
])
def test_kinds_make_files_of_their_own(ncc_, kind, made):
    status, out, err = ncc_("build", "net.nal", "--emit", kind)
    assert (status, out) == (0, "")
    sizes = r"net.nal: flash \d+ bytes \(code \d+, tables \d+\), RAM \d+ \(.*\), " \
        r"stack \d+ at most\n"
    assert re.fullmatch(sizes if "obj" in kind or kind == "shared" else "", err)
    assert files() == made
    Path("sub").mkdir()
    assert ncc_("build", "net.nal", "--emit", kind, "-o", "sub/") == (0, "", err)
    assert sorted(p.name for p in Path("sub").iterdir()) == made


def test_the_default_is_an_object_and_its_header_beside_it(ncc_):
    Path("x").mkdir()
    assert ncc_("build", "net.nal", "-o", "x/y.o")[0] == 0
    assert sorted(p.name for p in Path("x").iterdir()) == ["y.h", "y.o"]
    assert Path("x/y.o").read_bytes()[:4] == b"\x7fELF"
    assert re.search(r"NET_INPUTS +2 ", Path("x/y.h").read_text())  # symbols keep the net's name
    mask = os.umask(0)
    os.umask(mask)
    assert Path("x/y.o").stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_header_does_not_overwrite_the_object(ncc_):
    assert ncc_("build", "net.nal", "-o", "y.h")[0] == 2
    assert files() == []


def test_outputs_never_overwrite_the_input(ncc_):
    text = ncc_("build", "net.nal", "--emit", "graph")[1]
    Path("net.graph").write_text(text)
    status, _, err = ncc_("build", "net.graph", "--emit", "graph,ssa")
    assert status == 2 and "net.graph" in err
    assert Path("net.graph").read_text() == text and not Path("net.ssa").exists()


def test_several_kinds_want_a_folder(ncc_):
    assert ncc_("build", "net.nal", "--emit", "fwd,dot", "-o", "text")[0] == 2
    assert ncc_("build", "net.nal", "--emit", "fwd,dot", "-o", "-")[0] == 2
    assert ncc_("build", "net.nal", "--emit", "obj,c", "-o", "/dev/stdout")[0] == 2
    assert files() == []


OPEN = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
@pytest.mark.slow
def test_standard_output_gets_the_bytes_of_each_kind_and_nothing_else_does(tmp_path):
    """A pipe, and a file that already holds something."""
    run = [sys.executable, "-m", "ncc", "build", "net.nal", "--emit"]
    kinds = [name for name, kind in KINDS.items() if not kind.folder]
    before = set(os.listdir("/dev"))
    (tmp_path / "out").mkdir()
    for kind in kinds:
        subprocess.run([*run, kind, "-o", "out"], cwd=tmp_path, check=True, capture_output=True)
    there = sorted(os.listdir(tmp_path))
    for k, kind in enumerate(kinds):
        name = OPEN[k % len(OPEN)]
        expected = (tmp_path / "out" / f"net.{ENDINGS.get(kind, kind)}").read_bytes()
        done = subprocess.run([*run, kind, "-o", name], cwd=tmp_path, capture_output=True)
        assert (done.returncode, done.stdout) == (0, expected), kind
        if kind in ("ssa", "header", "obj", "wasm"):  # texts and bytes, one file and several
            with open(tmp_path / "log", "wb") as log:
                log.write(b"before\n")
                log.flush()
                subprocess.run([*run, kind, "-o", OPEN[(k + 1) % len(OPEN)]], cwd=tmp_path,
                               stdout=log, stderr=subprocess.DEVNULL, check=True)
            assert (tmp_path / "log").read_bytes() == b"before\n" + expected
            (tmp_path / "log").unlink()
        assert sorted(os.listdir(tmp_path)) == there
    assert set(os.listdir("/dev")) == before


def test_a_pipe_or_a_device_gets_no_header_beside_it(ncc_):
    assert ncc_("build", "net.nal", "-o", "/dev/null")[0] == 0
    assert not os.path.exists("/dev/null.h") and files() == []


@pytest.mark.parametrize("stem, name", [
    ("2-layers", "n2_layers"), ("a b", "a_b"), ("int", "int"), ("été", "_t_"), ("x.y", "x_y"),
    ('q"\\n', "q__n"), ("new\nline", "new_line"), ("*-%s", "___s"), ("-", "_"),
])
def test_any_stem_gives_valid_c_and_files_keep_it(ncc_, stem, name):
    path = Path("d", f"{stem}.nal")
    path.parent.mkdir()
    path.write_text(NET)
    assert ncc_("build", path, "--emit", "obj,c,llvm,dot")[0] == 0
    assert {p.name for p in Path().glob("*.[och]")} == {f"{stem}.o", f"{stem}.c", f"{stem}.h"}
    symbols = subprocess.run(["nm", "-g", "--", f"./{stem}.o"], capture_output=True, text=True)
    found = [line.split()[-1] for line in symbols.stdout.splitlines()]
    assert found == [f"{name}_{f}" for f in ("backward", "backward_batch", "forward",
                                             "forward_batch", "pack")]
    for suffix in ("c", "h"):
        done = subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
                               "-Werror", "-fsyntax-only", "-xc", f"./{stem}.{suffix}"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_name_renames_symbols_and_not_files(ncc_):
    assert ncc_("build", "net.nal", "--name", "brain")[0] == 0
    assert files() == ["net.h", "net.o"]
    assert "void brain_forward(" in Path("net.h").read_text()
    for bad in ("2x", "a-b", "é", "a b", ""):
        assert ncc_("build", "net.nal", "--name", bad)[0] == 2


def test_a_shared_library_is_called(ncc_):
    words = ["--emit", "shared", "--embed-weights", "--cpu", "native"]
    assert ncc_("build", "net.nal", *words)[0] == 0
    library = ctypes.CDLL(str(Path("net.so").resolve()))
    x, y = (ctypes.c_float * 2)(1, 2), (ctypes.c_float * 1)()
    work = (ctypes.c_char * 4096)()
    shift = -ctypes.addressof(work) % 64
    library.net_forward(x, y, ctypes.byref(work, shift))
    assert np.float32(y[0]) == expected()[0, 0]


# ---- options


def test_standard_input(ncc_):
    for kind in ("ast", "fwd"):
        made = process("build", "-", "--format", "nal", "--emit", kind, input=NET)
        assert (made.returncode, made.stderr) == (0, "")
        assert made.stdout == ncc_("build", "net.nal", "--emit", kind)[1]
    made = process("check", "-", input=NET)
    assert made.returncode == 2 and "--format" in made.stderr
    assert process("run", "net.nal", "--input", "-", input=CSV).stdout.count("\n") == 3
    assert process("run", "-", "--format", "nal", "--input", "-", input=NET).returncode == 2
    assert process("build", "-", "--format", "nal", input=NET).returncode == 0
    assert files() == ["net.h", "net.o"]


def test_format_overrides_the_ending(ncc_):
    Path("net.txt").write_text(NET)
    assert ncc_("check", "net.txt")[0] == 1  # it might be an edge list
    assert ncc_("check", "net.txt", "--format", "nal")[0] == 0
    assert ncc_("check", "net.nal", "--format", "nel")[0] == 1
    assert ncc_("check", "net.nal", "--format", "zip")[0] == 2


def test_activation_and_outputs(ncc_):
    Path("m.nam").write_text("001\n001\n000\n")
    assert " 1d " not in ncc_("build", "m.nam", "--emit", "ast")[1]
    rows = ncc_("run", "m.nam", "--activation", "relu", "--init", "shared:-1", "--input",
                "x.csv")[1]
    assert rows == "0.0\n0.5\n0.0\n"
    assert ncc_("run", "m.nam", "--activation", "3", "--init", "shared:-1", "--input",
                "x.csv")[1] == rows
    assert ncc_("run", "net.nal", "--outputs", "02,00", "--input", "x.csv")[1] == (
        "0.0,1.0\n1.5,0.5\n0.0,3.0\n")
    for words in (["--outputs", "zz"], ["--outputs", "06"], ["--outputs", "02,02"],
                  ["--activation", "zork"], ["--outputs", ""]):
        assert ncc_("check", "net.nal", *words)[0] == 2, words


def test_weights_init_and_seed(ncc_):
    Path("w.nal").write_text("N 03\n00\n01\n02 0 00,01 +\n")
    status, _, err = ncc_("run", "w.nal", "--input", "x.csv")
    assert status == 1 and "3 of 3 parameters" in err and "--weights" in err
    Path("w.txt").write_text("1\n2\n0.5\n")
    np.save("w.npy", [1, 2, 0.5])
    np.savez("w.npz", params=[1, 2, 0.5])
    for name in ("w.txt", "w.npy", "w.npz"):
        assert ncc_("run", "w.nal", "--weights", name, "--input", "x.csv")[1] == "5.5\n-1.0\n11.5\n"
    assert ncc_("run", "w.nal", "--init", "shared:1", "--input", "x.csv")[1] == "4.0\n0.5\n8.0\n"
    a, b, c = (ncc_("run", "w.nal", "--init", "he", "--seed", s, "--input", "x.csv")[1]
               for s in (1, 1, 2))
    assert a == b != c
    Path("short.txt").write_text("1\n2\n")
    status, _, err = ncc_("run", "w.nal", "--weights", "short.txt", "--input", "x.csv")
    assert status == 1 and " 2 " in err and " 3 " in err
    for words, status in ((["--weights", "none.npy"], 1), (["--init", "zork"], 2),
                          (["--init", "he", "--seed", "-1"], 2), (["--seed", "x"], 2)):
        assert ncc_("run", "w.nal", "--input", "x.csv", *words)[0] == status, words
    assert ncc_("build", "w.nal", "--embed-weights")[0] == 1
    assert ncc_("build", "w.nal")[0] == 0  # code needs no values


def test_what_overflows_the_dtype_is_an_error(ncc_):
    for text in ("N 02\n00\n01 0 00:1e300\n", "N 02\n00\n01 0 00:=1e300\n"):
        Path("w.nal").write_text(text)
        status, _, err = ncc_("build", "w.nal")
        assert status == 1 and err == "error[E146]: 1e+300 overflows f32\nhelp: --dtype f64\n"
        assert ncc_("build", "w.nal", "--dtype", "f64")[0] == 0


@pytest.mark.parametrize("dtype, names", [("f32", ["float32", "single", "f4"]),
                                          ("f64", ["float64", "double", "f8"])])
def test_dtypes_have_the_names_of_numpy(ncc_, dtype, names):
    text = ncc_("build", "net.nal", "--emit", "ssa", "--dtype", dtype)[1]
    for name in names:
        assert ncc_("build", "net.nal", "--emit", "ssa", "--dtype", name)[1] == text
    for bad in ("f16", "float16", "int32", "flaot32", "", "longdouble"):
        assert ncc_("build", "net.nal", "--dtype", bad)[0] == 2


@pytest.mark.parametrize("flags", [[], ["-O0"], ["-O3"], ["-O", "1"], ["--form", "table"],
                                   ["--batch-form", "table", "--threads", "3"]])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_run_gives_the_bits_of_the_interpreter(ncc_, flags, dtype, numerics):
    status, out, err = ncc_("run", "net.nal", "--input", "x.csv", "--dtype", dtype, "--numerics",
                            numerics, *flags)
    assert (status, err) == (0, "")
    got = np.array([line.split(",") for line in out.splitlines()]).astype(
        np.float32 if dtype == "f32" else np.float64)
    assert np.array_equal(got, expected(dtype=dtype, numerics=numerics))


def test_targets(ncc_):
    for name in ("x86-64", "aarch64", "cortex-m0", "wasm32"):
        assert ncc_("build", "net.nal", "--emit", "asm", "--target", name)[0] == 0
    assert "NET_TARGET" in ncc_("build", "net.nal", "--emit", "header")[1]
    for words in (["--target", "pdp11"], ["--cpu", "z80"], ["--features", "+warp"],
                  ["--target", "x86-64", "--numerics", "fused"]):
        status, _, err = ncc_("build", "net.nal", *words)
        assert status == 2 and re.match(r"error\[E\d+\]: ", err), words
    assert files() == []


@pytest.mark.parametrize("words", [
    [], ["build"], ["frob"], ["build", "net.nal", "-O4"], ["build", "net.nal", "--emi", "fwd"],
    ["build", "net.nal", "--emit", "zork"], ["build", "net.nal", "--emit", ""],
    ["build", "net.nal", "--dtype", "f16"], ["build", "net.nal", "--numerics", "exact"],
    ["build", "net.nal", "--seed", "one"], ["run", "net.nal"], ["convert", "net.nal"],
    ["run", "net.nal", "--input", "x.csv", "--threads", "-1"], ["convert", "net.nal", "out.txt"],
    ["build", "net.nal", "--passes", "zork"], ["build", "net.nal", "--passes", "split{x=1}"],
    ["build", "net.nal", "--passes", "split{piece=x}"], ["build", "net.nal", "--passes", "split{"],
    ["build", "net.nal", "--passes", "fold"], ["build", "net.nal", "--passes", "group,lower"],
    ["build", "net.nal", "--passes", "group,place,lower,to_llvm"],
    ["build", "net.nal", "--passes", "group,place,lower,differentiate"],
    ["build", "net.nal", "--passes", "group,place,lower", "--emit", "c"],
    ["build", "net.nal", "--passes", ""], ["build", "net.nal", "--passes", "merge,embed{params=3}"],
    ["build", "net.nal", "--print-after", "zork"], ["build", "net.nal", "--print-before", "x,all"],
])
def test_a_wrong_command_line_is_exit_2(ncc_, words):
    status, out, err = ncc_(*words)
    assert (status, out) == (2, "") and err and "E70" not in err
    assert files() == []


@pytest.mark.parametrize("line, code, help", [
    ("trian net.nal", "E600", "`train`"), ("biuld net.nal", "E600", "`build`"),
    ("frobnicate", "E600", "one of build, check"), ("", "E600", "ncc --help"),
    ("--vresion", "E600", "`--version`"), ("build net.nal --emti ssa", "E600", "`--emit`"),
    ("train net.nal --epoch 3", "E600", "`--epochs`"), ("run net.nal --inptu x.csv", "E600",
                                                        "`--input`"),
    ("build net.nal --emit=ssa --targte=native", "E600", "`--target`"),
    ("build net.nal -emit ssa", "E600", "`--emit`"), ("run net.nal --emit ssa", "E600",
                                                      "ncc build has it"),
    ("build net.nal --features -avx2", "E600", "--features=-avx2"),
    ("cache --claer", "E600", "`--clear`"), ("build net.nal --zzz", "E600", "ncc build --help"),
    ("run net.nal", "E600", "ncc run --help"), ("check net.nal x", "E600", "ncc --help"),
    ("build net.nal --form tabel", "E600", "`table`"), ("build net.nal -O7", "E600", "0, 1, 2, 3"),
    ("build net.nal --numerics stirct", "E600", "`strict`"),
    ("build net.nal --emit obb", "E604", "`obj`"), ("build net.nal --dtype f46", "E603", "float64"),
    ("build net.nal --passes fodl", "E601", "`fold`"),
    ("build net.nal --print-after cse,fodl", "E601", "`fold`"),
    ("convert net.nal out.nall", "E102", "`nal`"), ("check net.nall", "E102", "`nal`"),
    ("bench net.nal --peers numpi", "E640", "`numpy"),
])
def test_what_is_misspelt_is_guessed(ncc_, line, code, help):
    """Options, commands, and words that options take; before anything that is missing."""
    status, out, err = ncc_(*line.split())
    assert (status, out) == (2, "")
    assert err.startswith(f"error[{code}]: ") and help in err.splitlines()[-1], err


def test_values_that_look_like_options_are_none(ncc_):
    assert ncc_("check", "net.nal", "--", "x")[0] == 2
    assert "E130" in ncc_("check", "net.nal", "--outputs", "-1")[2]
    Path("-net.nal").write_text(NET)
    assert ncc_("check", "--", "-net.nal")[0] == 0
    assert ncc_("build", "net.nal", "-O1", "-oout.o", "--no-backward")[0] == 0


def test_version_and_help(ncc_):
    assert ncc_("--version")[:2] == (0, f"ncc {ncc.__version__}\n")
    assert ncc_("--help")[0] == 0
    assert "--print-after" in ncc_("build", "--help")[1]


# ---- what the command line can see of the pipeline


def test_dumps_are_headed_and_enter_again(ncc_):
    status, out, err = ncc_("build", "net.nal", "--emit", "fwd,obj", "--print-after", "all")
    heads = re.findall(r"^// ---- (.*)$", err, re.M)
    assert heads == [f"after {step.name}" for step in pipeline.steps()]
    _, _, before = ncc_("build", "net.nal", "--print-before", "merge, fold")
    assert re.findall(r"^// ---- (.*)$", before, re.M) == ["before merge", "before fold"]
    y = ncc_("run", "net.nal", "--input", "x.csv")[1]
    dumps = re.split(r"^// ---- after .*\n", err, flags=re.M)[1:]
    entered = 0
    for step, text in zip(pipeline.steps(), dumps, strict=True):
        ending = {"graph": "graph", "plan": "plan", "module": "ssa"}.get(text.split()[0])
        if ending:
            Path(f"dump.{ending}").write_text(text)
            assert ncc_("run", f"dump.{ending}", "--input", "x.csv") == (0, y, ""), step.name
            entered += 1
    assert entered == 16


def test_print_after_of_a_pass_that_runs_twice(ncc_):
    _, _, err = ncc_("build", "net.nal", "--emit", "ssa", "--print-after", "fold", "--passes",
                     "group,place,lower,fold,cse,fold")
    assert err.count("// ---- after fold\n") == 2


def test_statistics_times_and_explanations(ncc_):
    _, _, err = ncc_("build", "twins.nal", "--stats")
    rows = dict(line.split(maxsplit=1) for line in err.splitlines()[1:-1])
    assert list(rows) == [step.name for step in pipeline.steps()]
    assert rows["merge"] == "5 neurons, 6 edges -> 4 neurons, 4 edges (gone: 03)"
    assert re.fullmatch(r"\d+ ops, 5 functions -> \d+ ops, 5 functions", rows["cse"])
    _, _, err = ncc_("build", "twins.nal", "--stats", "--no-backward")
    assert re.search(r"^cse +\d+ ops, 3 functions -> \d+ ops, 3 functions$", err, re.M)
    _, _, err = ncc_("run", "twins.nal", "--explain", "--form", "table", "--input", "x.csv")
    assert "forward: table (asked for)" in err and "forward_batch: straight (" in err


@pytest.mark.parametrize("words, stages", [
    ("build net.nal", ["read", "parse", *PASSES, "llvm-parse", "llvm-optimise", "llvm-codegen",
                       "header", "write"]),
    ("build net.nal -O0 --emit asm,ssa -o .", ["llvm-parse", "llvm-codegen"]),
    ("build net.nal --emit bc", ["llvm-parse", "llvm-optimise"]),
    ("build net.nal --check --verify-each", ["check", "verify", "llvm-codegen"]),
    ("build net.graph", ["read", "parse", "merge", "llvm-codegen"]),
    ("build net.plan --emit obj", ["read", "parse", "lower", "llvm-codegen", "header"]),
    ("build net.ssa --emit obj", ["read", "parse", "fold", "llvm-codegen"]),
    ("run net.nal --input x.csv", ["samples", "resolve", "llvm-codegen", "run", "write"]),
])
def test_times_sum_to_the_wall_clock(ncc_, words, stages):
    for kind in ("graph", "plan", "ssa"):
        ncc_("build", "net.nal", "--emit", kind, "-o", f"net.{kind}")
    began = time.perf_counter()
    status, _, err = ncc_(*words.split(), "--time-passes")
    wall = (time.perf_counter() - began) * 1e3
    assert status == 0 and err.startswith("// ---- time of passes\n")
    rows = [re.fullmatch(r"(\S.*?) +(-?\d+\.\d\d) ms +(-?\d+\.\d)%", line).groups()
            for line in err.splitlines()[1:] if " flash " not in line]  # the sizes come last
    names = [name for name, _, _ in rows]
    assert names[-2:] == ["other", "total"] and set(stages) <= set(names)
    times = [float(seconds) for _, seconds, _ in rows]
    assert abs(sum(times[:-1]) - times[-1]) <= 0.006 * len(rows)  # they are rounded
    assert min(times) >= 0 and times[-1] <= wall + 0.01
    assert abs(sum(float(share) for _, _, share in rows[:-1]) - 100) <= 0.06 * len(rows)


def test_times_of_a_process_begin_with_its_imports(here):
    made = process("build", "net.nal", "--time-passes")
    rows = made.stderr.splitlines()
    assert made.returncode == 0 and rows[1].startswith("import ")
    assert any(row.startswith("total ") for row in rows)


def test_passes_with_options(ncc_):
    road_ = "group{form=table},place,lower"
    assert "for %" in ncc_("build", "net.nal", "--emit", "ssa", "--passes", road_)[1]
    assert ", 2 rows" not in ncc_("build", "twins.nal", "--emit", "plan", "--passes",
                                  "group,place")[1]
    assert ", 2 rows" in ncc_("build", "twins.nal", "--emit", "plan", "--passes",
                            "merge,group,place")[1]
    text = ncc_("build", "net.nal", "--emit", "graph", "--passes", "resolve{outputs=03},order")[1]
    assert "\noutputs 03\n" in text
    y = ncc_("run", "net.nal", "--input", "x.csv")[1]
    assert ncc_("run", "net.nal", "--input", "x.csv", "--passes",
                "group,place,lower,expand,to_llvm")[1] == y


# ---- texts of levels enter the pipeline


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice
def test_texts_of_levels_enter(ncc_, form, dtype):
    forms, how = ["--form", form, "--batch-form", form], ["--dtype", dtype]
    y = ncc_("run", "net.nal", "--input", "x.csv", *how, *forms)[1]
    for kind in ("graph", "plan", "ssa"):
        path = f"again.{kind}"
        assert ncc_("build", "net.nal", "--emit", kind, "-o", path, "--cpu", "native", *how,
                    *forms)[0] == 0
        words = ["run", path, "--input", "x.csv", *how, *(forms if kind != "plan" else [])]
        assert ncc_(*words) == (0, y, ""), kind
        assert ncc_(*words, "--check", "--verify-each")[:2] == (0, y)
        assert ncc_("check", path)[0] == 0
    text = Path("again.ssa").read_text()
    assert ncc_("build", "again.ssa", "--emit", "ssa", "--passes", "")[1] == text
    status, out, _ = ncc_("build", "again.ssa", "--emit", "llvm,asm,bc,obj,c,shared", "-o", ".")
    assert (status, out) == (0, "")
    assert {"again.ll", "again.s", "again.bc", "again.o", "again.c", "again.so"} <= set(files())
    for kind in ("ast", "graph", "plan", "header", "fwd", "matrix", "dot"):
        assert ncc_("build", "again.ssa", "--emit", kind)[0] == 2
    assert ncc_("build", "again.graph", "--emit", "ast")[0] == 2


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("how", ["--no-backward", "--backward", "--train mse,adam"])
@pytest.mark.each_choice
def test_a_plan_text_becomes_what_its_net_becomes(ncc_, form, how):
    forms = ["--form", form, "--batch-form", form,
             "--backward-form", form.replace("shared", "table")]
    words = ["--dtype", "f64", "--numerics", "strict", *how.split()]
    kinds = ["plan", "ssa", "llvm", "c", "obj", "header"]
    for kind in kinds:
        assert ncc_("build", "net.nal", "--emit", kind, "-o", f"net.{kind}", *words,
                    *forms)[0] == 0
    for kind in kinds:
        assert ncc_("build", "net.plan", "--emit", kind, "-o", f"again.{kind}", *words)[0] == 0
        if kind != "header":  # which has the hash of the net, not of what passes left of it
            assert Path(f"again.{kind}").read_bytes() == Path(f"net.{kind}").read_bytes(), kind
    hashes = re.compile(r'NET_HASH +"(\w+)"')
    a, b = (Path(f"{name}.header").read_text() for name in ("net", "again"))
    assert hashes.sub("", a) == hashes.sub("", b)


def test_a_plan_text_says_what_is_asked_of_it(ncc_):
    ncc_("build", "net.nal", "--emit", "plan", "--backward", "-o", "net.plan")
    text = Path("net.plan").read_text()
    for words in (["--form", "table"], ["--batch-form", "straight"], ["--backward-form", "table"],
                  ["--embed-weights"], ["--outputs", "02"], ["--emit", "ast"], ["--tune"]):
        assert ncc_("build", "net.plan", *words)[0] == 2, words
    for command in (["run", "net.plan", "--input", "x.csv", "--skip-dead"],
                    ["convert", "net.plan", "other.nal"], ["bench", "net.plan"],
                    ["train", "net.plan", "--data", "x.csv", "--target", "x.csv", "-o", "w.txt"]):
        assert ncc_(*command)[0] == 2, command
    assert ncc_("build", "net.plan", "--emit", "plan", "--passes", "") == (0, text, "")
    assert ncc_("build", "net.plan", "--emit", "plan") == (0, text, "")
    assert ncc_("build", "net.plan", "--emit", "plan", "--no-backward") == (0, text, "")
    assert "train_step" in ncc_("build", "net.plan", "--emit", "plan", "--train", "mse,sgd")[1]
    assert ncc_("build", "net.plan", "--emit", "graph")[1] == text[text.index("graph "):]
    assert "_backward(" in ncc_("build", "net.plan", "--emit", "header")[1]
    ncc_("build", "net.nal", "--emit", "plan", "-o", "plain.plan")
    for words in (["--backward"], ["--train", "mse,sgd"]):
        status, _, err = ncc_("build", "plain.plan", *words)
        assert status == 2 and "has no backward forms" in err
    ncc_("build", "net.nal", "--emit", "plan", "--passes", "group", "-o", "bare.plan")
    assert "single: straight, unplaced" in Path("bare.plan").read_text()
    assert ncc_("build", "bare.plan", "--emit", "ssa", "--passes", "lower")[0] == 2
    assert ncc_("build", "bare.plan", "--emit", "ssa", "--passes", "place,lower")[0] == 0
    assert ncc_("build", "plain.plan", "--emit", "ssa", "--passes", "lower")[0] == 0
    assert ncc_("run", "bare.plan", "--input", "x.csv")[:2] == ncc_(
        "run", "net.nal", "--input", "x.csv")[:2]


@pytest.mark.parametrize("functions", ["-", "pack", "pack, forward", "backward", "backward_batch",
                                       "pack, forward, forward_batch"])
def test_a_plan_of_some_functions(ncc_, functions):
    ncc_("build", "net.nal", "--emit", "plan", "--backward", "-o", "net.plan")
    text = re.sub("functions .*", f"functions {functions}", Path("net.plan").read_text())
    Path("net.plan").write_text(text)
    for kind in ("plan", "ssa", "llvm", "c", "header", "obj"):
        status, _, err = ncc_("build", "net.plan", "--no-backward", "--emit", kind, "-o", "made")
        assert status == 0, (kind, err)
    status = ncc_("run", "net.plan", "--input", "x.csv")[0]
    assert status == (0 if "forward_batch" in functions else 1)


def test_an_ssa_text_keeps_its_values_out_of_the_object(ncc_):
    ncc_("build", "net.nal", "--emit", "ssa", "-o", "net.ssa")
    assert "table parameters f: 0.5 -1.25" in Path("net.ssa").read_text()
    ncc_("build", "net.ssa", "--emit", "llvm", "-o", "a.ll")
    ncc_("build", "net.nal", "--emit", "llvm", "-o", "b.ll")
    assert "parameters" not in Path("a.ll").read_text() + Path("b.ll").read_text()
    np.save("w.npy", np.zeros(10))
    assert ncc_("run", "net.ssa", "--weights", "w.npy", "--input", "x.csv")[1] == "0.0\n" * 3


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("form", ["--backward-form straight", "--backward-form table",
                                  "--form shared --batch-form shared --backward-form table"])
@pytest.mark.parametrize("how", ["--backward", "--train mse,adam", "--train ce,sgd:momentum=0.9"])
def test_ssa_texts_with_values_and_gradients_enter_again(ncc_, how, form, dtype):
    Path("valued.nal").write_text("N 06\n00\n01\n02 tanh 00:2,01:1 +0.5\n03 relu 00:1,01:-1 +0.25\n"
                                  "04 relu max 02:1,03:2\n05 tanh 02:1,03:0.5\n")
    words = [*how.split(), "--dtype", dtype, *form.split(), "--emit", "ssa"]
    assert ncc_("build", "valued.nal", *words, "-o", "valued.ssa")[0] == 0
    assert "table parameters" in Path("valued.ssa").read_text()
    again = ncc_("build", "valued.ssa", "--emit", "ssa", "--passes", "")
    assert again[:2] == (0, Path("valued.ssa").read_text())
    assert ncc_("build", "valued.ssa", "--emit", "llvm", "-o", "valued.ll")[0] == 0


def test_options_that_a_text_has_decided_are_refused(ncc_):
    ncc_("build", "net.nal", "--emit", "graph", "-o", "net.graph")
    ncc_("build", "net.nal", "--emit", "ssa", "-o", "net.ssa")
    for path in ("net.graph", "net.ssa"):
        assert ncc_("build", path, "--outputs", "02")[0] == 2
        assert ncc_("build", path, "--activation", "3")[0] == 2
    assert ncc_("build", "net.ssa", "--dtype", "f64")[0] == 2
    assert ncc_("build", "net.ssa", "--numerics", "strict")[0] == 2
    assert ncc_("build", "net.ssa", "--numerics", "fused", "--dtype", "f32")[0] == 0
    assert ncc_("run", "net.ssa", "--init", "he", "--input", "x.csv")[0] == 2
    assert ncc_("convert", "net.ssa", "net2.nal")[0] == 2


def test_a_broken_text_is_exit_1_with_a_place(ncc_):
    ncc_("build", "net.nal", "--emit", "graph", "-o", "net.graph")
    ncc_("build", "net.nal", "--emit", "ssa", "-o", "net.ssa")
    ncc_("build", "net.nal", "--emit", "plan", "-o", "net.plan")
    for path, good, bad in (("net.graph", "00*p0", "07*p0"), ("net.plan", "<- 00", "<- 07"),
                            ("net.ssa", "store %", "store %9")):
        text = Path(path).read_text()
        assert good in text
        Path(path).write_text(text.replace(good, bad, 1))
        for command in (["check", path], ["build", path], ["run", path, "--input", "x.csv"]):
            status, _, err = ncc_(*command)
            assert status == 1 and re.match(rf"{path}:\d+:\d+: error\[E\d+\]: ", err), err
    Path("wild.ssa").write_text("""module wild f32 strict
func forward(x in 2, y out 1, work work 0) {
  %0 = index 99
  %1 = load x[%0]
  store %1, y[0]
}
func forward_batch(count, x in 2, y out 1, work private 0) {
  %0 = index 99
  %1 = load x[%0]
  store %1, y[0]
}
""")
    assert ncc_("run", "wild.ssa", "--input", "x.csv")[0] == 1
    Path("other.ssa").write_text("module other f32 strict\nfunc f(x in 2) {\n}\n")
    assert ncc_("run", "other.ssa", "--input", "x.csv")[0] == 1


# ---- --check, --verify-each


def guilty(monkeypatch, name, behave):
    """Put `behave(real, level, **options)` in the place of a pass on the pipeline."""
    real = {call.__name__: call for call in pipeline.PIPELINE}[name]

    @functools.wraps(real)
    def call(level, **options):
        return behave(real, level, **options)

    monkeypatch.setattr(pipeline, "PIPELINE",
                        tuple(call if c is real else c for c in pipeline.PIPELINE))


def fails(real, level, **options):
    raise RuntimeError("guilty")


def shifts(real, level, **options):
    """The pass, and then one constant, weight or input of its result is another."""
    new = real(level, **options)
    if isinstance(new, Module):
        funcs = []
        for func in new.funcs:
            at = max((k for k, op in enumerate(func.ops) if op[0] == "store" and
                      op[2][0] == "y"), default=None)
            if at is None or func.name != "forward_batch":
                funcs.append(func)
                continue
            ops = list(func.ops)
            ops[at] = ("store", (next(k for k, op in enumerate(ops) if op[0] == "load" and
                                      op[2][0] == "x"), *ops[at][1][1:]), ops[at][2])
            funcs.append(func.with_ops(ops))
        return new.with_(funcs=tuple(funcs))
    graph = new if isinstance(new, Graph) else new.graph
    graph = graph.with_(weights=graph.weights[::-1].copy())
    return graph if isinstance(new, Graph) else new.with_(graph=graph)


def test_check_compares_gradients(ncc_, monkeypatch):
    def flips(real, level, **options):
        """Every product that goes into the gradient, of the other sign."""
        new, funcs = real(level, **options), []
        for func in new.funcs:
            ops, moved = [], []
            for opcode, reads, imm in func.ops:
                reads = tuple(moved[r] for r in reads)
                if opcode == "accumulate" and func.name == "backward_batch":
                    ops.append(("neg", reads[:1], None))
                    reads = (len(ops) - 1, *reads[1:])
                moved.append(len(ops))
                ops.append((opcode, reads, imm))
            funcs.append(func.with_ops(ops))
        return new.with_(funcs=tuple(funcs))

    guilty(monkeypatch, "lower", flips)
    for form in ("straight", "table"):
        status, _, err = ncc_("build", "net.nal", "--check", "--backward-form", form)
        assert status == 3, err
        assert "error[E320]: lower changes dparams of backward_batch[" in err
        assert ncc_("build", "net.nal", "--check", "--no-backward")[0] == 0


def test_check_compares_the_gradients_of_plans(ncc_, monkeypatch):
    """Rows in another order give the same values, and the same gradients but for their sums'."""
    def swapped(real, level, **options):
        plan = real(level, **options)
        rows, edges = plan.rows.copy(), plan.edges.copy()
        rows[[0, 3]] = rows[[3, 0]]
        edges[[0, 1, 6, 7]] = edges[[6, 7, 0, 1]]
        return plan.with_(rows=rows, edges=edges)

    # Four rows of two edges and of one level, which an input has as readers.
    Path("wide.nal").write_text("N 07\n00\n01\n" + "".join(
        [f"0{j} tanh 00:0.{j}7,01:{j}.3\n" for j in range(2, 6)])
        + "06 sigmoid 02:1,03:2,04:3,05:4\n")
    assert ncc_("build", "wide.nal", "--check", "--backward")[0] == 0
    guilty(monkeypatch, "group", swapped)
    assert ncc_("build", "wide.nal", "--check", "--no-backward", "--emit", "graph")[0] == 0
    status, _, err = ncc_("build", "wide.nal", "--check", "--backward")
    assert status == 3 and re.search(r"E320.*group changes d\w+ of backward", err), err


@pytest.mark.parametrize("extra", ["", "--dtype=f64", "--numerics=strict", "--numerics=fast"])
@pytest.mark.parametrize("name", [c.__name__ for c in pipeline.PIPELINE[2:-1]])
@pytest.mark.each_choice
def test_check_names_the_pass_that_changes_a_result(ncc_, monkeypatch, name, extra):
    guilty(monkeypatch, name, shifts)
    status, _, err = ncc_("build", "net.nal", "--check", *extra.split())
    assert status == 3 and f"error[E320]: {name} changes output 0" in err, err
    assert not Path("net.o").exists()


@pytest.mark.parametrize("name", ["fold", "cse", "dce", "split"])
def test_verify_each_proves_the_passes_that_keep_terms(ncc_, monkeypatch, name):
    guilty(monkeypatch, name, shifts)
    assert ncc_("build", "net.nal", "--verify-each")[0] == 3
    assert ncc_("build", "net.nal")[0] == 0


def test_check_draws_parameters_that_are_missing(ncc_, monkeypatch):
    Path("w.nal").write_text("N 04\n00\n01\n02 tanh 00,01 +\n03 0 mul 02,00:3\n")
    for extra in ([], ["--dtype", "f64"], ["--numerics", "strict"], ["--numerics", "fast"],
                  ["--form", "table", "--batch-form", "table"]):
        status, out, err = ncc_("build", "w.nal", "--check", "--verify-each", *extra)
        assert (status, out, len(err.splitlines())) == (0, "", 1)  # the sizes
    assert ncc_("build", "net.nal", "--check", "--embed-weights", "--verify-each")[0] == 0
    guilty(monkeypatch, "dce", shifts)
    assert ncc_("build", "w.nal", "--check")[0] == 3


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_every_level_answers_in_the_dtype_and_numerics_asked(dtype, numerics):
    inputs = "".join(f"{i:02x}\n" for i in range(8))
    edges = ",".join(f"{i:02x}:0.{i}7" for i in range(8))
    graph = ncc.parse(f"N 09\n{inputs}08 0 {edges} +0.313\n").graph
    one, batch = answers(graph, graph.values, dtype, numerics)
    assert one.dtype == batch.dtype == np.dtype("f4" if dtype == "f32" else "f8")
    other = answers(graph, graph.values, dtype, {"strict": "fused", "fused": "strict"}[numerics])
    assert not np.array_equal(batch, other[1])  # or the test could not tell them apart
    common = options(ncc.machine.llvm.host(), dtype=dtype, numerics=numerics)
    module = build.Build(graph, ncc.machine.llvm.host(), common, along=[
        s for s in pipeline.steps() if s.name not in ("resolve", "order")]).module
    got = answers(module, graph.values, "f32", "fast")
    assert np.array_equal(got[0], one) and np.array_equal(got[1], batch)


# ---- faults of ncc's own


@pytest.mark.parametrize("name", [c.__name__ for c in pipeline.PIPELINE])
def test_a_fault_keeps_a_reproducer_that_replays_it(ncc_, monkeypatch, name):
    flags = ["--dtype", "f64", "--numerics", "strict", "--form", "table"]
    with monkeypatch.context() as patch:
        guilty(patch, name, fails)
        status, _, err = ncc_("build", "net.nal", "-o", "out.o", *flags)
        assert status == 70 and "RuntimeError: guilty" in err
        assert not Path("out.o").exists()
        kept = re.search(r"is kept in (\S+)", err)[1]
        command = re.search(r"^help: ncc (.*)$", err, re.M)[1]
        before = Path(kept).read_text()
        assert command in before.splitlines()[0]
        assert f"{name} --emit" in command  # the guilty pass is the last
        status, _, again = ncc_(*shlex.split(command))
        assert status == 70 and "RuntimeError: guilty" in again
        assert Path(kept).read_text() == before
    status, out, err = ncc_(*shlex.split(command))  # innocent, it goes through
    assert (status, err) == (0, "")
    if name == "lower":
        assert read_ssa(Source("<out>", out)).dtype == "f64"


@pytest.mark.parametrize("name, words", [
    *[(name, ["build", "net.nal", "--activation", "tanh", "--outputs", "03,05"])
      for name in ("resolve", "order", "merge", "lower", "cse")],
    *[(name, ["bench", "net.nal", "--peers", "none", "--seconds", "0.1"])
      for name in ("merge", "to_llvm")],
    ("order", ["train", "net.nal", "--data", "x.csv", "--target", "y.csv", "-o", "w.txt"]),
])
def test_a_reproducer_has_the_options_that_its_text_takes(ncc_, monkeypatch, name, words):
    """Not those that a graph or an ssa text has in it, nor what is named alike elsewhere."""
    guilty(monkeypatch, name, fails)
    status, _, err = ncc_(*words)
    command = shlex.split(re.search(r"^help: ncc (.*)$", err, re.M)[1])
    assert status == 70 and "y.csv" not in command
    assert ("--cpu" in command) == (words[0] == "bench")
    assert ("--outputs" in command) == (name == "resolve")
    status, _, err = ncc_(*command)
    assert status == 70 and "RuntimeError: guilty" in err


def test_a_failed_check_keeps_a_reproducer_too(ncc_, monkeypatch):
    guilty(monkeypatch, "cse", shifts)
    status, _, err = ncc_("build", "net.nal", "--check")
    command = re.search(r"^help: ncc (.*)$", err, re.M)[1]
    assert status == 3 and "--check" in command
    assert ncc_(*shlex.split(command))[0] == 3


def test_options_of_a_guilty_pass_are_kept(ncc_, monkeypatch):
    guilty(monkeypatch, "split", fails)
    passes = "group,place,lower,expand,split{piece=7},to_llvm"
    _, _, err = ncc_("build", "net.nal", "--passes", passes)
    command = re.search(r"^help: ncc (.*)$", err, re.M)[1]
    assert "split{piece=7}" in shlex.split(command)
    assert ncc_(*shlex.split(command))[0] == 70


def test_a_fault_of_the_machine_replays_from_ssa(ncc_, monkeypatch):
    def broken(self, text):
        raise RuntimeError("guilty")

    monkeypatch.setattr(Machine, "object", broken)
    for words in (["build", "net.nal"], ["run", "net.nal", "--input", "x.csv"]):
        status, _, err = ncc_(*words)
        command = re.search(r"^help: ncc (.*)$", err, re.M)[1]
        assert status == 70 and "--passes to_llvm --emit obj" in command
        assert ncc_(*shlex.split(command))[0] == 70


def test_a_fault_where_nothing_can_be_kept(ncc_, monkeypatch):
    guilty(monkeypatch, "cse", fails)
    Path("ncc-fault-cse.ssa").mkdir()
    status, _, err = ncc_("build", "net.nal")
    assert status == 70 and "help" not in err


@pytest.mark.parametrize("error, status", [
    (KeyboardInterrupt(), 130), (MemoryError(), 4), (NccError("E1", "m", status=5), 5),
    (OSError(28, "No space left on device"), 1), (RecursionError(), 70), (ZeroDivisionError(), 70),
    (RuntimeError("can't start new thread"), 4), (RuntimeError("odd"), 70),
    (OSError(12, "Cannot allocate memory"), 4),
])
def test_exit_statuses(ncc_, monkeypatch, error, status):
    def raises(real, level, **options):
        raise error

    guilty(monkeypatch, "merge", raises)
    assert ncc_("build", "net.nal")[0] == status


@pytest.mark.parametrize("words", [["run", "net.nal", "--input", "x.npy"],
                                   ["run", "net.nal", "--input", "x.csv", "--weights", "w.npz"]])
def test_a_file_for_which_there_is_no_memory_is_not_called_damaged(ncc_, monkeypatch, words):
    def full(*_, **__):
        raise MemoryError

    np.save("x.npy", np.zeros((3, 2)))
    np.savez("w.npz", params=np.zeros(10))
    monkeypatch.setattr(np, "load", full)
    status, _, err = ncc_(*words)
    assert status == 4 and err.startswith("error[E400]")


def test_a_missing_or_failing_cc_is_exit_5(ncc_, monkeypatch):
    monkeypatch.setenv("PATH", str(Path("bin").resolve()))
    assert ncc_("build", "net.nal", "--emit", "shared")[0] == 5
    Path("bin").mkdir()
    for text in ("#!/bin/sh\necho no >&2\nexit 1\n", "#!/bin/sh\nexit 0\n", "#!/none\n"):
        Path("bin/cc").write_text(text)
        Path("bin/cc").chmod(0o755)
        status, _, err = ncc_("build", "net.nal", "--emit", "shared")
        assert status == 5 and "cc" in err
    assert not Path("net.so").exists()


# ---- what cannot be read or written


@pytest.mark.parametrize("path", ["none.nal", "dir.nal", "none/net.nal", "net.nal/net.nal",
                                  "a" * 300 + ".nal"])
def test_what_cannot_be_read_is_exit_1(ncc_, path):
    Path("dir.nal").mkdir()
    for command in (["check", path], ["build", path], ["run", path, "--input", "x.csv"],
                    ["convert", path, "out.nel"], ["run", "net.nal", "--input", path],
                    ["build", "net.nal", "--weights", path]):
        status, out, err = ncc_(*command)
        assert (status, out) == (1, "") and "cannot read" in err and err.startswith("error[")


@pytest.mark.parametrize("path", ["none/y.o", "net.nal/y.o", "none/", "a" * 300])
def test_what_cannot_be_written_is_exit_1(ncc_, path):
    for command in (["build", "net.nal", "-o", path], ["build", "net.nal", "--emit", "dot", "-o",
                                                      path],
                    ["run", "net.nal", "--input", "x.csv", "-o", path]):
        status, _, err = ncc_(*command)
        assert status == 1 and err.startswith("error[E622]: cannot write")
    assert files() == []


def test_outputs_are_whole_or_absent(ncc_, monkeypatch):
    Path("out").mkdir()
    Path("out/net.h").mkdir()  # the header cannot be written, so the object is not either
    assert ncc_("build", "net.nal", "-o", "out/net.o")[0] == 1
    assert sorted(p.name for p in Path("out").iterdir()) == ["net.h"]
    Path("net.o").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    status, _, err = ncc_("build", "net.nal")
    assert status == 1 and "No space left" in err
    assert Path("net.o").read_text() == "old" and files() == ["net.o", "out"]


def test_a_process_that_dies_leaves_no_half_output():
    def small():  # the kernel ends the process in the middle of a write
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    made = process("build", "net.nal", "--emit", "asm,dot,obj", preexec_fn=small)
    assert made.returncode not in (0, 70) and "Traceback" not in made.stderr
    assert not {"net.s", "net.dot", "net.o", "net.h"} & set(files())


def test_devices_are_written_to_and_links_followed(ncc_):
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True)
    assert ncc_("build", "net.nal", "--emit", "fwd", "-o", "pipe")[0] == 0
    assert reader.communicate(timeout=20)[0] == ncc_("build", "net.nal", "--emit", "fwd")[1]
    assert Path("pipe").is_fifo()
    Path("real.o").write_text("old")
    Path("link.o").symlink_to("real.o")
    assert ncc_("build", "net.nal", "-o", "link.o")[0] == 0
    assert Path("link.o").is_symlink() and Path("real.o").read_bytes()[:4] == b"\x7fELF"


def test_a_name_as_long_as_names_can_be(ncc_):
    name = "n" * 251
    Path(f"{name}.nal").write_text(NET)
    assert ncc_("build", f"{name}.nal")[0] == 0
    assert Path(f"{name}.o").exists()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_full_or_closed_standard_output(here):
    with open("/dev/full", "w") as full:
        for words in (["build", "net.nal", "--emit", "ssa"], ["check", "net.nal"],
                      ["run", "net.nal", "--input", "x.csv"]):
            made = process(*words, stdout=full, stderr=subprocess.PIPE, capture_output=False)
            assert made.returncode == 1 and made.stderr.startswith("error[E622]"), made.stderr
            assert "Exception ignored" not in made.stderr
    shell = f"exec {shlex.quote(sys.executable)} -m ncc check net.nal"
    closed = subprocess.run(["sh", "-c", shell + " >&-"], capture_output=True, text=True)
    assert closed.returncode == 1 and closed.stderr.startswith("error[E622]")
    closed = subprocess.run(["sh", "-c", shell + " 2>&-"], capture_output=True, text=True)
    assert closed.returncode == 0


def test_a_broken_pipe_is_quiet(here):
    Path("big.nal").write_text("N 801\n00\n" + "".join(
        f"{j:x} 0 {j - 1:x}:1\n" for j in range(1, 0x801)))
    words = f"{shlex.quote(sys.executable)} -m ncc build big.nal --emit llvm"
    made = subprocess.run(["bash", "-c", f"{words} | head -1; exit ${{PIPESTATUS[0]}}"],
                          capture_output=True, text=True, timeout=60)
    assert (made.returncode, made.stderr) == (1, "")
    assert made.stdout.count("\n") == 1


# ---- samples


SUM = "N 03\n00\n01\n02 0 00:1,01:1\n"


@pytest.mark.parametrize("text, y", [
    ("1,2\n3,4", [3, 7]), ("1 2\n\t3\t4 \n", [3, 7]), ("\ufeff1,2\r\n\r\n3, 4\r\n", [3, 7]),
    ("nan,1\ninf,-INF\n1e999,0\n", [np.nan, np.nan, np.inf]), ("0x1p4,+.5e1\n", [21]),
    ("1e300,0\n", [np.inf]), ("-1e-60,0\n", [0]), ("1,2\r3,4\r", [3, 7]), ("1,2\r3,4", [3, 7]),
    ("# a, b\n1,2 # three\n  #\n3,4#", [3, 7]), ('"1","2"\n"3" , 4\n', [3, 7]),
    ("1,2\n\n\n# the end", [3]),
])
def test_csv(ncc_, text, y):
    Path("sum.nal").write_text(SUM)
    Path("s.csv").write_text(text, newline="")
    status, out, err = ncc_("run", "sum.nal", "--input", "s.csv")
    assert (status, err) == (0, "")
    assert np.array_equal(np.array(out.split(), float), np.array(y, float), equal_nan=True)


@pytest.mark.parametrize("text", ["", "\n  \n", "# nothing\n", "\ufeff", "\r\r"])
def test_a_file_without_samples_is_warned_of(ncc_, text):
    Path("s.csv").write_text(text, newline="")
    assert ncc_("run", "net.nal", "--input", "s.csv") == (
        0, "", "s.csv: warning[W003]: it holds no samples\n")
    np.save("s.npy", np.zeros((0, 2)))  # an array of no rows is one on purpose
    assert ncc_("run", "net.nal", "--input", "s.npy") == (0, "", "")


@pytest.mark.parametrize("head, line", [
    ("a,b", 1), ("x1 , y\u00b2", 1), ('"sepal length","(cm)"', 1), ("a b", 1), ("_0,_1", 1),
    ("# note\n\nin,out", 3), ("a,", 1), ("inch,nanometre", 1), ("\ufeffa,b", 1),
])
def test_a_header_is_skipped_with_a_note(ncc_, head, line):
    Path("sum.nal").write_text(SUM)
    for end in ("\n", "\r\n", "\r"):
        Path("s.csv").write_text(f"{head}\n1,2\n3,4\n".replace("\n", end), newline="",
                                 encoding="utf-8")
        status, out, err = ncc_("run", "sum.nal", "--input", "s.csv")
        assert (status, out) == (0, "3.0\n7.0\n")
        assert err.startswith(f"note: s.csv: line {line} names the columns")
        assert err.count("\n") == 1
        assert ncc_("run", "sum.nal", "--input", "s.csv", "--header") == (0, out, "")
        assert ncc_("run", "sum.nal", "--input", "s.csv", "--no-header")[0] == 1


def test_header_takes_a_first_row_of_numbers(ncc_):
    Path("sum.nal").write_text(SUM)
    Path("s.csv").write_text("\n2019,2020\n1,2\n")
    assert ncc_("run", "sum.nal", "--input", "s.csv") == (0, "4039.0\n3.0\n", "")
    assert ncc_("run", "sum.nal", "--input", "s.csv", "--header") == (0, "3.0\n", "")


@pytest.mark.parametrize("text, place, message", [
    ("1,2\n3\n", "2:1", "1 values, the net has 2 inputs"), ("1,2,3\n", "1:1", "3 values"),
    ("1,,2\n", "1:1", "3 values"), ("1,\n", "1:3", "a field is empty"),
    ("\n1, a\n", "2:4", "'a' is no number"), ("1,1\n", "1:3", "'1\\uff11' is no number"),
    ("1_0,2\n", "1:1", "'1_0' is no number"), ("1,2;\n", "1:4", "`;` separates the values"),
    ("1 2,3\n", "1:1", "'1 2' is no number"), ("1,2\nx,y\n", "2:1", "'x' is no number"),
    ("0x,1\n", "1:1", "'0x' is no number"), ("e1,1\n", "1:1", "'e1' is no number"),
    ("1,b\n1,2\n", "1:3", "'b' is no number"), ("a,b\nc,d\n1,2\n", "2:1", "'c' is no number"),
    ("a,b,c\n1,2,3\n", "2:1", "3 values"), ('"1,5",2\n', "1:1", "is no number"),
    # what is behind it
    ("0;0\n0;1\n", "1:2", "tr ';' ',' < s.csv"), ("a;b\n0;1\n", "1:2", "tr ';' ',' < s.csv"),
    ("0,5;0,25\n", "1:4", "tr ',;' '.,' < s.csv"), ("1;0,25\n", "1:2", "decimal sign is a comma"),
    ("1,2\n0,5;-0,25e3\n", "2:4", "decimal sign is a comma"),
    ("0,5 0,25\n", "1:1", "tr , . < s.csv"), ("0,5\t0,25\n", "1:1", "tr , . < s.csv"),
    ("1_000,1\n", "1:1", "digits are not grouped"), ("1,1'000.5\n", "1:3", "not grouped"),
    ("1 000,2\n", "1:1", "digits are not grouped"), ('2,"1,000"\n', "1:3", "not grouped"),
    ("1,000,2,000\n", "1:1", "1000, not 1,000"), ("0,0,\n0,1,\n", "1:1", "ends with a comma"),
    ("1,2\n3,4\r5,6\n", "2:1", "3 values"), ("1,2\n3,4\r\r\n", "2:3", "a carriage return"),
])
def test_bad_csv(ncc_, text, place, message):
    Path("s.csv").write_text(text.replace("1,1\n", "1,1\uff11\n", 1) if "uff11" in message
                             else text, encoding="utf-8", newline="")
    status, out, err = ncc_("run", "net.nal", "--input", "s.csv")
    assert (status, out) == (1, "")
    err = "".join(line for line in err.splitlines(True) if not line.startswith("note: s.csv"))
    assert err.startswith(f"s.csv:{place}: error[E") and message in err.replace("\uff11",
                                                                                "\\uff11")


def test_help_quotes_names_of_files(ncc_):
    Path("my data.csv").write_text("0;1\n")
    assert "< 'my data.csv'" in ncc_("run", "net.nal", "--input", "my data.csv")[2]


@pytest.mark.parametrize("array, message", [
    (np.array([["1", "2"]]), "holds texts (<U1)"), (np.array([[1j, 2]]), "complex numbers"),
    (np.array([[b"1", b"2"]]), "bytes"), (np.array([["2020-01-01"] * 2], "M8[D]"), "dates"),
    (np.zeros(3, [("a", float)]), "records"), (np.array([[None, 2]]), "Python objects"),
    (np.zeros((2, 3)), "has shape (2, 3), the net has 2 inputs"), (np.zeros((2, 3)), "transpose"),
    (np.zeros((3, 2, 1)), "has shape (3, 2, 1)"), (np.array(1.0), "has shape ()"),
])
@pytest.mark.parametrize("name", ["s.npy", "s.npz"])
def test_arrays_of_another_type_or_shape(ncc_, name, array, message):
    if name == "s.npy":
        np.save(name, array)
    else:
        np.savez(name, x=array, y=np.zeros(3))
    status, out, err = ncc_("run", "net.nal", "--input", name)
    assert (status, out) == (1, "") and message in err and name in err


@pytest.mark.parametrize("array, shape", [
    (np.zeros((0, 2)), (0,)), (np.array([1.0, 2]), (1,)), (np.array([[1, 2], [3, 4]]), (2,)),
    (np.array([[True, False]]), (1,)), (np.asfortranarray([[1, 2], [3, 4]], ">f2"), (2,)),
    (np.zeros((2, 3)), None), (np.zeros((1, 1, 2)), None), (np.array(1.0), None),
    (np.array([["1", "2"]]), None), (np.array([[1j, 2]]), None),
    (np.array([[None, 2]]), None), (np.array([["2020-01-01"] * 2], "M8[D]"), None),
])
def test_npy(ncc_, array, shape):
    np.save("s.npy", array)
    status, _, err = ncc_("run", "net.nal", "--input", "s.npy", "-o", "y.npy")
    if shape is None:
        assert status == 1 and "s.npy" in err and not Path("y.npy").exists()
    else:
        assert (status, err) == (0, "")
        y = np.load("y.npy")
        assert y.shape == (*shape, 1) and y.dtype == np.float32


@pytest.mark.parametrize("raw", [b"", b"garbage", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04junk"])
def test_bad_npy(ncc_, raw):
    Path("s.npy").write_bytes(raw)
    assert ncc_("run", "net.nal", "--input", "s.npy")[0] == 1
    Path("s.csv").write_bytes(b"\xff\xfe1,2\n")
    assert ncc_("run", "net.nal", "--input", "s.csv")[0] == 1


def test_results_read_back_exactly(ncc_):
    rng = np.random.default_rng(0)
    np.save("s.npy", rng.standard_normal((50, 2)) * 10.0 ** rng.integers(-30, 30, (50, 2)))
    for dtype, real in (("f32", np.float32), ("f64", np.float64)):
        assert ncc_("run", "net.nal", "--input", "s.npy", "--dtype", dtype, "-o", "y.csv")[0] == 0
        ncc_("run", "net.nal", "--input", "s.npy", "--dtype", dtype, "-o", "y.npy")
        y = np.load("y.npy")
        assert y.dtype == real
        text = np.array(Path("y.csv").read_text().split(), np.float64).astype(real)
        assert np.array_equal(text.view("u1"), y[:, 0].copy().view("u1"))


# ---- check and convert


def test_check_prints_decimal_counts(ncc_):
    Path("chain.nal").write_text("N 14\n00\n" + "".join(
        f"{j:02x} 0 {j - 1:02x}\n" for j in range(1, 20)))
    assert ncc_("check", "chain.nal") == (0, "neurons 20\nedges 19\nparameters 19\ndepth 19\n"
                                          "inputs 1\noutputs 1\n", "")
    Path("idle.nal").write_text("N 03\n00\n01\n02 0 00\n")
    status, out, err = ncc_("check", "idle.nal")
    assert status == 0 and "idle.nal: warning[" in err and "unused input 01" in err


def test_messages_show_the_place(ncc_):
    Path("bad.nal").write_text("N 03\n00\n01\n02 03 00,07\n")
    status, out, err = ncc_("check", "bad.nal")
    lines = err.splitlines()
    assert (status, out) == (1, "")
    assert re.fullmatch(r"bad\.nal:4:10: error\[E\d+\]: .*07.*", lines[0])
    assert lines[1] == "  02 03 00,07" and lines[2].rstrip("^") == " " * 11
    Path("cycle.nal").write_text("N 04\n00\n01 0 00,03\n02 0 01\n03 0 02\n")
    status, _, err = ncc_("check", "cycle.nal")
    assert status == 1 and all(name in err for name in ("01", "02", "03"))


def test_convert_round(ncc_):
    y = ncc_("run", "net.nal", "--input", "x.csv")[1]
    for path in ("a.nel", "b.graph", "c.nal"):
        assert ncc_("convert", "net.nal", path)[0] == 0
        assert ncc_("run", path, "--input", "x.csv")[1] == y
    assert ncc_("convert", "net.nal", "d.nam")[0] == 1 and not Path("d.nam").exists()
    assert ncc_("convert", "net.nal", "d.nam", "--lossy")[0] == 0
    assert ncc_("convert", "none.nal", "out.zip")[0] == 2


def test_convert_puts_values_into_a_net(ncc_):
    """Those of a file, or drawn ones; the net and the file say the same from then on."""
    bare = "N 05\n00\n01\n02 tanh 00@a,01@b +\n03 tanh 00@b,01:=2 +@a\n04 00 02,03 +\n"
    Path("bare.nal").write_text(bare)
    values = np.random.default_rng(0).standard_normal(6) * 10.0 ** np.arange(-3, 3)
    np.save("w.npy", values)
    Path("w.txt").write_text("".join(f"{v!r}\n" for v in values.tolist()))
    y = ncc_("run", "bare.nal", "--weights", "w.npy", "--input", "x.csv")
    for made in ("a.nal", "a.nel", "a.graph"):
        for given in ("w.npy", "w.txt"):
            assert ncc_("convert", "bare.nal", made, "--weights", given) == (0, "", "")
            assert np.array_equal(ncc.load(made).params, values)
            assert ncc_("run", made, "--input", "x.csv") == y
        assert ncc_("convert", "bare.nal", made, "--init", "he", "--seed", 4) == (0, "", "")
        drawn = ncc_("run", "bare.nal", "--init", "he", "--seed", 4, "--input", "x.csv")
        assert ncc_("run", made, "--input", "x.csv") == drawn
    np.save("short.npy", values[1:])
    for words, status in ((["--weights", "short.npy"], 1), (["--init", "zork"], 2),
                          (["--weights", "none"], 1), (["--init", "he", "--seed", "-1"], 2)):
        assert ncc_("convert", "bare.nal", "b.nal", *words)[0] == status
    # Nothing is lost unless it may be.
    Path("plain.nal").write_text("N 03\n00\n01\n02 00 00,01\n")
    np.save("two.npy", [1, 2])
    assert ncc_("convert", "plain.nal", "b.nam") == (0, "", "")
    Path("b.nam").unlink()
    status, _, err = ncc_("convert", "plain.nal", "b.nam", "--weights", "two.npy")
    assert status == 1 and "values of weights" in err
    assert not Path("b.nal").exists() and not Path("b.nam").exists()
    assert ncc_("convert", "plain.nal", "b.nam", "--weights", "two.npy", "--lossy")[0] == 0


CASES = Path(__file__).parents[3] / "shared/cases/errors"


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared/cases")
def test_the_cases_that_users_met(ncc_):
    net = Path(__file__).parents[2] / "examples/xor.nal"
    for name, status, words in (
            ("deccomma.csv", 1, "decimal sign"), ("empty.csv", 0, "W003"), ("hdr.csv", 0, "a,b"),
            ("mac.csv", 0, ""), ("semi.csv", 1, "`;`"), ("thou.csv", 1, "grouped"),
            ("trail.csv", 1, "comma")):
        found, _, err = ncc_("run", net, "--input", CASES / name)
        assert found == status and words in err and bool(err) == bool(words), name
    assert ncc_("convert", CASES / "learn.nal", "t.nal", "--weights", CASES / "w.txt")[0] == 0
    assert ncc.load("t.nal").params.tolist() == list(range(1, 10))


def test_the_same_input_gives_the_same_bytes_under_any_hash_seed(here):
    made = []
    for seed in ("0", "1"):
        folder = Path(seed)
        folder.mkdir()
        done = process("build", "net.nal", "--emit", "obj,shared,c,ssa,graph,llvm,asm,bc,dot", "-o",
                       folder, env=dict(os.environ, PYTHONHASHSEED=seed))
        assert done.returncode == 0
        made.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert made[0] == made[1] and len(made[0]) == 10


def test_values_of_an_ssa_text_are_taken_off_before_the_passes(ncc_):
    module, values = carried(read_ssa(Source("t", ncc_("build", "net.nal", "--emit", "ssa")[1])))
    assert values.tolist()[:2] == [0.5, -1.25] and "values" not in str(module)
    assert fold_file.fold(module).tables == module.tables
