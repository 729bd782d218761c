"""The cost card: against other tools' readings of the object, a second count, limits, hostile
values."""

import json
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from nets import random_layers
from objects import build
from simulators import SYSTEM, bits, simulated, tools

import ncc
from ncc.cli import main
from ncc.driver.cost import Chosen
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir.ssa import DTYPES
from ncc.machine.emulator import timing
from ncc.machine.emulator.libgcc import called
from ncc.machine.llvm import target
from ncc.report.cost import amount

XOR = "N 05\n00\n01\n02 tanh 00:-3.0139,01:3.0147 +-1.698\n" \
    "03 tanh 00:3.0138,01:-3.0136 +-1.6974\n04 sigmoid 02:6.4375,03:6.4376 +6.449\n"
LAYERS = random_layers([5, 9, 7, 2], 4, seed=2, activation="tanh", weights=True)


@pytest.fixture
def xor(tmp_path):
    path = tmp_path / "xor.nal"
    path.write_text(XOR)
    return str(path)


def card(capsys, *words, status=0):
    assert main(["cost", *words, "--json", "--no-cache"]) == status
    return json.loads(capsys.readouterr().out)


# ---- what stands in the card

KEYS = {"schema", "net", "target", "dtype", "numerics", "small", "embedded", "forms", "flash",
        "ram", "stack", "neurons", "edges", "parameters", "macs", "calls", "functions",
        "counted_by", "why_not", "limits"}


def test_the_card_is_that_of_the_object(tmp_path, capsys, xor):
    found = card(capsys, xor, "--target", "cortex-m4f", "--no-count")
    assert set(found) == KEYS
    assert main(["build", xor, "--target", "cortex-m4f", "-o", str(tmp_path / "xor.o")]) == 0
    line = capsys.readouterr().err
    assert f"flash {found['flash']['bytes']} bytes (code {found['flash']['code']}, " in line
    assert f"RAM {found['ram']['bytes']} " in line and f"stack {found['stack']} at most" in line
    header = (tmp_path / "xor.h").read_text()
    stacks = [int(n) for n in re.findall(r"It takes (\d+) bytes of stack", header)]
    assert stacks == [f["stack"] for f in found["functions"].values()]
    assert found["calls"] == {"sigmoid": 1, "tanh": 2} and found["macs"] == 6
    assert sum(s["bytes"] for s in found["flash"]["sections"]) == found["flash"]["bytes"]


def test_the_card_of_another_abi_is_that_of_its_object(tmp_path, capsys, xor):
    found = card(capsys, xor, "--abi", "casadi", "--no-count")
    assert found["dtype"] == "f64" and "jacobian" in found["functions"]
    assert main(["build", xor, "--abi", "casadi", "-o", str(tmp_path / "xor.o")]) == 0
    assert f"flash {found['flash']['bytes']} bytes" in capsys.readouterr().err
    assert main(["cost", xor, "--abi", "casadi", "--dtype", "f32"]) == 2
    assert "error[E609]: --abi casadi: CasADi computes in f64" in capsys.readouterr().err


def test_python_gives_the_same_card(capsys, xor):
    words = ["--target", "cortex-m0", "--train", "mse,adam", "--dtype", "f64", "--no-count"]
    said = card(capsys, xor, *words)
    mine = ncc.parse(XOR).cost("cortex-m0", train="mse,adam", dtype="f64", count=False)
    for key in KEYS - {"net", "limits", "flash"}:
        assert mine.to_dict()[key] == said[key], key
    assert mine.flash == said["flash"]["bytes"] and mine.ram == said["ram"]["bytes"]
    assert "train_step" in mine.text and mine.text.startswith("net on cortex-m0: f64 strict, for")
    with pytest.raises(NccError, match="E609"):
        ncc.parse(XOR).cost(opt=7)
    with pytest.raises(NccError, match="E609"):
        ncc.parse(XOR).cost(embed=True, backward=True)
    with pytest.raises(NccError, match="E607"):
        ncc.parse("N 02\n00\n01 relu 00\n").cost(embed=True)


@pytest.mark.parametrize("name, parts", [
    ("x86_64-apple-macosx", {"__text"}), ("x86_64-pc-windows-msvc", {".text", ".rdata"}),
    ("wasm32", {"CODE"}), ("x86-64", {".text.net_forward"})])
def test_objects_of_every_format_have_sections(name, parts):
    found = ncc.parse(XOR).cost(name, backward=False)
    assert parts <= {section.name for section in found.sections}
    assert sum(section.bytes for section in found.sections) == found.flash > 400
    assert (found.stack is None) == (name == "wasm32")
    assert (found.cycles is None) == (name == "wasm32")
    assert (found.instructions is None) == (name != "x86-64" or found.counted_by is None)


@pytest.mark.parametrize("name", ["cortex-m4f", pytest.param("rv32imc", marks=pytest.mark.slow),
                                  pytest.param("aarch64", marks=pytest.mark.slow)])
def test_gnus_size_reads_the_same_sections(tmp_path, capsys, name):
    tool = {"cortex-m4f": "arm-none-eabi-size", "aarch64": "aarch64-linux-gnu-size",
            "rv32imc": "riscv64-unknown-elf-size"}[name]
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    net = tmp_path / "net.nal"
    build(tmp_path, LAYERS, "--target", name)
    said = subprocess.run([tool, "-A", tmp_path / "net.o"], capture_output=True, text=True).stdout
    sizes = dict(re.findall(r"^(\.\S+) +([1-9]\d*) ", said, re.MULTILINE))
    sizes = {s: int(n) for s, n in sizes.items()
             if s.startswith((".text", ".rodata", ".ARM.exidx", ".eh_frame"))}
    capsys.readouterr()
    net.write_text(LAYERS)
    found = card(capsys, str(net), "--target", name, "--no-count")
    parts = {}
    for s in found["flash"]["sections"]:
        parts[s["name"]] = parts.get(s["name"], 0) + s["bytes"]
    assert {s: n for s, n in parts.items() if s in sizes} == sizes
    assert sum(parts.values()) == sum(sizes.values())


# ---- instructions

def emulated(name, dtype, net, **passes):
    """The object of a net in the emulator, its build, and what a function of its gives: arrays by
    the names of its buffers, before and after."""
    emulator = pytest.importorskip("ncc.machine.emulator.emulated")
    pytest.importorskip("unicorn")
    made = Chosen(net.graph, target(name), Settings(dtype, cache=False, passes={
        "gradient": True, "name": "net", **passes})).build()
    machine = emulator.Emulated(made.target, made.object())

    def call(function, **arrays):
        signature, buffers, work = made.made.facts["functions"][function]
        at = {b: machine.allocate(arrays.get(b, np.zeros(size, DTYPES[dtype])).tobytes())
              for b, size in buffers.items() if b != "lr"}
        arguments = [DTYPES[dtype](0.125) if b == "lr" else at[b] for b in buffers]
        if len(signature) > len(arguments):
            arguments.append(machine.allocate(bytes(8 * work)))
        count = machine.call(f"net_{function}", arguments)
        real = np.dtype(DTYPES[dtype])
        return count, {b: np.frombuffer(machine.read(at[b], buffers[b] * real.itemsize), real)
                       for b in at}
    return made, call


EMULATED = ["cortex-m0", "cortex-m4f", "cortex-m7", "armv7-a", "aarch64", "rv32imc", "rv64gc",
            "x86-64"]


@pytest.mark.parametrize("form", ["straight", "table"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", EMULATED)
@pytest.mark.each_choice("dtype", "form")
def test_the_emulator_gives_the_bits_of_the_interpreter(name, dtype, form):
    net = ncc.parse(XOR.replace("03 tanh", "03 sin"))
    made, call = emulated(name, dtype, net, form=form, loss="mse", optimizer="sgd")
    real, numerics = DTYPES[dtype], made.options["numerics"]
    x, dy = np.array([0.3, -0.8], real), np.array([0.7], real)
    _, after = call("pack", params=net.params.astype(real))
    packed = after["packed"]
    count, after = call("forward", x=x, packed=packed)
    expected = net.graph.run(x[None], dtype=dtype, numerics=numerics)
    np.testing.assert_array_equal(after["y"], expected[0])
    assert count.instructions > 100 and bool(count.calls) == (dtype in made.target.soft)
    count, after = call("backward", x=x, packed=packed, dy=dy)  # the last arguments are on a stack
    dx, dparams = net.graph.gradient(x[None], dy[None], dtype=dtype, numerics=numerics)
    np.testing.assert_array_equal(after["dx"], dx[0])
    np.testing.assert_array_equal(after["dparams"], dparams)
    params = net.params.astype(real)
    _, after = call("train_step", x=x, target=dy, packed=packed, params=params)
    assert np.isfinite(after["params"]).all() and (after["params"] != params).sum() > 4


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("cortex-m4f", "rv32imc")))
    for name in EMULATED])
def test_the_stack_that_a_call_writes_to_is_what_the_card_says(name):
    """Of x86 what a leaf may write below its frame is counted, and not written."""
    pytest.importorskip("unicorn")
    found = ncc.parse(LAYERS).cost(name, train="mse,sgd", form="table")
    used = {f: c for f, c in found.functions.items() if c.stack_used is not None}
    assert set(used) == {"pack", "forward", "backward", "train_step"}
    slack = 16 if not name.startswith("x86") else 160
    for function, c in used.items():
        assert c.stack_used <= c.stack <= c.stack_used + slack, function


ONE_CALL = SYSTEM.join(('#include "net.h"\n#include "data.h"\n', r"""
static float y[NET_OUTPUTS], packed[NET_PACKED];
static unsigned char NET_ALIGNED work[NET_WORK_BYTES + 1];

void _start(void)
{
    net_pack((const float *)params_bits, packed);
    net_forward((const float *)x_bits, packed, y, work);
    call(EXIT, 0, 0, 0);
    for (;;) {}
}
"""))


@pytest.mark.parametrize("name, form", [
    ("cortex-m4f", "straight"), ("rv32imac", "table"),
    pytest.param("aarch64", "table", marks=pytest.mark.slow)])
def test_qemu_counts_the_same_instructions(tmp_path, name, form):
    """One by one, from its log, of which those in our functions are taken."""
    compiler, simulator, _, more = tools(name)
    net = ncc.parse(LAYERS)
    made, call = emulated(name, "f32", net, form=form, gradient=False)
    x, params = np.array([0.5, -1, 2, 0.25, 1], np.float32), net.params.astype(np.float32)
    expected = [call("pack", params=params)[0].instructions,
                call("forward", x=x, packed=call("pack", params=params)[1]["packed"]
                     )[0].instructions]
    build(tmp_path, LAYERS, "--target", name, "--form", form, "--no-backward")
    (tmp_path / "data.h").write_text(bits("x_bits", x) + bits("params_bits", params))
    (tmp_path / "main.c").write_text(ONE_CALL)
    simulated(tmp_path, name, "main.c", "net.o")
    log = tmp_path / "log"
    subprocess.run([simulator, *more, "-singlestep", "-d", "exec,nochain", "-D", log,
                    tmp_path / "program"], check=True)
    nm = subprocess.run([compiler.replace("-gcc", "-nm"), "-S", tmp_path / "program"],
                        capture_output=True, text=True).stdout
    ours = [(int(at, 16), int(size, 16)) for at, size in re.findall(
        r"^(\w+) (\w+) [tT] net_\w+$", nm, re.MULTILINE)]
    steps = [int(pc, 16) & ~1 for pc in re.findall(r"\[\w+/(\w+)/", log.read_text())]
    inside = sum(any((at & ~1) <= pc < (at & ~1) + size for at, size in ours) for pc in steps)
    assert inside == sum(expected)


def test_cycles_are_those_of_the_manual():
    m4, m0 = (timing.of(target(name), lambda at, size: b"") for name in ("cortex-m4f", "cortex-m0"))
    words = {  # as arm-none-eabi-as encodes them
        "vfma.f32 s0, s1, s2": ("a0eec10a", 3), "vdiv.f32 s0, s1, s2": ("80ee810a", 14),
        "vsqrt.f32 s0, s1": ("b1eee00a", 14), "vmul.f32 s0, s1, s2": ("20ee810a", 1),
        "vldr s0, [r0]": ("90ed000a", 2), "vpush {d8-d10}": ("2ded068b", 7),
        "vmrs APSR_nzcv, fpscr": ("f1ee10fa", 1), "push {r4, lr}": ("10b5", 3),
        "ldr r0, [r1]": ("0868", 2), "adds r0, #1": ("0130", 1), "ldr.w r0, [r8]": ("d8f80000", 2)}
    for text, (encoded, cycles) in words.items():
        found = m4.instructions(bytes.fromhex(encoded))
        assert len(found) == 1 and m4.cycles(*found[0]) == cycles, text
    assert m0.cycles(0xBD10, 0) == 4 and m0.cycles(0xF000, 0xF800) == 2  # pop {r4, pc}, bl
    assert timing.of(target("cortex-m7"), bytes).cycles is None
    assert timing.of(target("rv32imc"), bytes).instructions(bytes(2) + b"\3\0\0\0") == [
        (0, 0), (3, 0)]


def test_the_runtime_computes_what_libgcc_does():
    def words(kind, *values):
        raw = struct.pack(f"<{len(values)}{kind}", *values)
        return [*struct.unpack(f"<{len(raw) // 4}I", raw), 0, 0, 0][:4]

    nan = float("nan")
    assert called("__aeabi_fadd", words("f", 1.5, 2.25)) == words("f", 3.75)[:1]
    assert called("__muldf3", words("d", 1.5, -2.0)) == words("d", -3.0)[:2]
    assert called("__aeabi_dcmplt", words("d", 1.0, 2.0)) == [1]
    assert called("__aeabi_fcmpun", words("f", nan, 2.0)) == [1]
    assert called("__aeabi_fcmpge", words("f", nan, 2.0)) == [0]
    assert called("__ltsf2", words("f", nan, 2.0)) == [1]
    assert called("__gesf2", words("f", nan, 2.0)) == called("__ltsf2", words("f", 1.0, 2.0))
    assert called("__unorddf2", words("d", 1.0, 2.0)) == [0]
    assert called("__aeabi_lasr", [0, 0x80000000, 4, 0]) == [0, 0xF8000000]
    assert called("__aeabi_lmul", [0xFFFFFFFF, 1, 3, 0]) == [0xFFFFFFFD, 5]
    assert called("__floatunsisf", [3, 0, 0, 0]) == words("f", 3.0)[:1]
    with pytest.raises(NccError, match="E702"):
        called("__aeabi_memcpy", [0, 0, 0, 0])


def test_without_the_emulator_the_card_says_so(monkeypatch, capsys, xor):
    monkeypatch.setitem(sys.modules, "unicorn", None)
    monkeypatch.delitem(sys.modules, "unicorn.arm_const", raising=False)
    found = card(capsys, xor, "--target", "cortex-m4f")
    assert found["counted_by"] is None and "ncc-compiler[cost]" in found["why_not"]
    assert found["functions"]["forward"]["instructions"] is None
    assert 200 < found["functions"]["forward"]["cycles"] < 800  # by the model
    assert main(["cost", xor, "--target", "cortex-m0", "--max-cycles", "1k"]) == 4
    assert "[cost]" in capsys.readouterr().err


def test_a_count_has_an_end(monkeypatch):
    emulator = pytest.importorskip("ncc.machine.emulator.emulated")
    pytest.importorskip("unicorn")
    monkeypatch.setattr(emulator, "MOST", 100)
    found = ncc.parse(XOR).cost("cortex-m4f")
    assert found.instructions is None and "more than 100" in found.why_not


# ---- limits

@pytest.mark.parametrize("text, what, expected", [
    ("8192", "flash", 8192), ("8K", "flash", 8192), ("8kB", "ram", 8192), ("8 KiB", "ram", 8192),
    ("1M", "flash", 1 << 20), ("0.5k", "stack", 512), ("20k", "cycles", 20_000),
    ("0", "ram", 0), ("1G", "flash", 1 << 30)])
def test_amounts_have_suffixes(text, what, expected):
    assert amount(text, what) == expected


@pytest.mark.parametrize("text", ["", "K", "-1", "8Q", "1e9", "nan", "8K8", "0x10", "9" * 40,
                                  "8b K", "٨", "1_000", "1,000"])
@pytest.mark.parametrize("what", ["flash", "cycles"])
def test_what_is_no_amount_is_refused(capsys, xor, text, what):
    assert main(["cost", xor, f"--max-{what}={text}"]) == 2
    assert "error[E609]" in capsys.readouterr().err


def test_within_its_limits_a_net_ends_well(capsys, xor):
    words = ["--target", "cortex-m4f", "--embed-weights", "--max-flash", "600", "--max-ram", "0"]
    found = card(capsys, xor, *words, "--max-stack", "88", "--no-count")
    assert [limit["what"] for limit in found["limits"]] == ["flash", "ram", "stack"]
    assert all(limit["held"] for limit in found["limits"])


@pytest.mark.parametrize("words, named", [
    (["--max-flash", "700"], "--no-backward"), (["--max-ram", "0"], "--embed-weights"),
    pytest.param(["--dtype", "f64", "--max-flash", "1500"], "", marks=pytest.mark.slow),
    pytest.param(["-O3", "--max-flash", "620"], "", marks=pytest.mark.slow),
    pytest.param(["--max-ram", "100", "--max-stack", "110"], "", marks=pytest.mark.slow)])
def test_beyond_a_limit_the_options_that_help_do_help(capsys, xor, words, named):
    all_words = [xor, "--target", "cortex-m4f", *words, "--no-count"]
    assert main(["cost", *all_words]) == 4
    out, err = capsys.readouterr()
    assert "flash" in out and "error[E403]" in err and "more than" in err
    help = re.search(r"help: ((?:-\S+ ?(?:f32|table|straight)? ?)+): ", err)
    assert help is not None, err
    assert named in help[1]
    assert main(["cost", *all_words, *help[1].split()]) == 0


def test_what_no_option_mends_is_said(capsys, xor):
    assert main(["cost", xor, "--target", "cortex-m4f", "--max-flash", "10", "--no-count",
                 "--no-backward"]) == 4
    err = capsys.readouterr().err
    assert re.search(r"flash 5\d\d, 5\d\d bytes more than 10 ", err)
    assert "a net of fewer edges or neurons" in err
    assert main(["cost", xor, "--target", "wasm32", "--max-stack", "1K"]) == 4
    assert "nobody knows the stack" in capsys.readouterr().err


def test_options_that_watch_and_choose_are_heard(capsys, xor):
    assert main(["cost", xor, "--explain", "--no-count", "--no-backward", "--target", "rv32imc",
                 "--form", "table"]) == 0
    out, err = capsys.readouterr()
    assert "forms forward table" in out and "forward: table (asked for)" in err
    assert main(["cost", xor, "--passes", "group,place"]) == 2


def test_texts_that_are_no_nets_have_no_card(tmp_path, capsys, xor):
    assert main(["build", xor, "--emit", "plan", "-o", str(tmp_path / "a.plan")]) == 0
    assert main(["cost", str(tmp_path / "a.plan")]) == 2
    assert "E604" in capsys.readouterr().err
