"""AVRs: objects and C files that run in simavr and give the host's bits, and their division."""

from __future__ import annotations

import ctypes
import re
import subprocess

import numpy as np
import pytest
from devices import AVR, needs, on_avr
from nets import random_layers, some_net, to_nal
from objects import AGGREGATES, EVERY, same, symbols

import ncc
from ncc.cli import main
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.machine.llvm import Loaded, Machine, host, target
from ncc.machine.targets import CPUS
from ncc.passes.emit.c_texts import HELPERS
from ncc.passes.emit.divide import division
from ncc.training.step import TrainStep

# With memory for every array of the drivers below; instructions and the runtime are those of all.
CPU = "atmega1284p"
SMALL = random_layers([5, 7, 3], 4, seed=3, activation="tanh", weights=True)

HEAD = AVR + r"""
#include "net.h"
#include "data.h"
static float packed[NET_PACKED + 1], y[N * NET_OUTPUTS];
static const float *x = (const float *)x_bits;
"""
FORWARD = HEAD + r"""
static unsigned char work[NET_WORK_BYTES + NET_BATCH_WORK_BYTES + 1];

int main(void)
{
    int k;
    net_pack((const float *)params_bits, packed);
    for (k = 0; k < N; k++)
        net_forward(x + k * NET_INPUTS, packed, y + k * NET_OUTPUTS, work);
    put(y, sizeof y);
    net_forward_batch(N, x, packed, y, work);
    put(y, sizeof y);
    end();
    return 0;
}
"""
GRADIENTS = HEAD + r"""
static unsigned char work[NET_BACKWARD_WORK_BYTES + NET_BACKWARD_BATCH_WORK_BYTES
                          + NET_TRAIN_WORK_BYTES + NET_TRAIN_BATCH_WORK_BYTES + 1];
static float dx[N * NET_INPUTS], dparams[NET_PARAMS], params[NET_PARAMS], state[NET_STATE];
static const float *dy = (const float *)dy_bits, *aim = (const float *)target_bits;

int main(void)
{
    int k;
    (void)y;
    for (k = 0; k < NET_PARAMS; k++)
        params[k] = ((const float *)params_bits)[k];
    net_pack(params, packed);
    net_backward(x, packed, dy, dx, dparams, work);
    put(dx, NET_INPUTS * sizeof *dx);
    put(dparams, sizeof dparams);
    for (k = 0; k < NET_PARAMS; k++)
        dparams[k] = 0;
    net_backward_batch(N, x, packed, dy, dx, dparams, work);
    put(dx, sizeof dx);
    put(dparams, sizeof dparams);
    for (k = 0; k < 3; k++)
        net_train_step_batch(N, x, aim, params, packed, state, 0.05f, work);
    net_train_step(x, aim, params, packed, state, 0.05f, work);
    put(params, sizeof params);
    put(state, sizeof state);
    end();
    return 0;
}
"""
# What a function writes below the caller's frame, in a stack that was painted before.
STACK = HEAD + r"""
enum { ROOM = 1024, PAINT = 0xA5 };

__attribute__((noinline, noclone)) static unsigned stack(unsigned char look)
{
    volatile unsigned char room[ROOM];
    unsigned k;
    if (look) {
        for (k = 0; k < ROOM && room[k] == PAINT; k++) {}
        return ROOM - k;
    }
    for (k = 0; k < ROOM; k++)
        room[k] = PAINT;
    return 0;
}

#define MEASURE(call) do { unsigned used; stack(0); call; used = stack(1); \
    put(&used, sizeof used); } while (0)

static unsigned char work[NET_WORK_BYTES + NET_BATCH_WORK_BYTES + 1];

int main(void)
{
    MEASURE(net_pack((const float *)params_bits, packed));
    MEASURE(net_forward(x, packed, y, work));
    MEASURE(net_forward_batch(N, x, packed, y, work));
    end();
    return 0;
}
"""


def words(name, array):
    """A C array of the bits of a numpy array of f32."""
    shown = ", ".join([f"0x{v:x}UL" for v in array.reshape(-1).view("<u4").tolist()] or ["0"])
    return f"static const uint32_t {name}_bits[] = {{{shown}}};\n"


def run(folder, net, driver, arrays, *options, kind="obj"):
    """What a driver of a net's object or C file writes, as f32; `arrays` are in it."""
    needs("avr-gcc", "simavr")
    (folder / "net.nal").write_text(net)
    words_ = ["--target", CPU, "--no-limit", *options]
    wanted = "obj" if kind == "obj" else "c,header"
    assert main(["build", str(folder / "net.nal"), "--emit", wanted, "-o", f"{folder}/",
                 *words_]) == 0
    held = {"params": ncc.parse(net).params.astype(np.float32), **arrays}
    (folder / "data.h").write_text(f"enum {{ N = {len(arrays['x'])} }};\n"
                                   + "".join([words(*pair) for pair in held.items()]))
    (folder / "main.c").write_text(driver)
    raw = on_avr(folder, CPU, "main.c", {"obj": "net.o", "c": "net.c"}[kind],
                 flags=["-fno-strict-aliasing"])
    return np.frombuffer(raw, np.float32 if driver is not STACK else np.uint16)


def samples(graph):
    """Ordinary numbers, and rows of special ones."""
    x = np.random.default_rng(5).uniform(-4, 4, (9, len(graph.inputs))).astype(np.float32)
    for k, value in enumerate([0.0, -0.0, 1e-40, 88.5, -104.0, 1e30, -np.inf, np.nan]):
        x[k, :: 1 + k % 2] = value
    return x


NETS = {"aggregates": AGGREGATES, "every": EVERY, "some": to_nal(some_net(12, max_neurons=24)),
        "layers": SMALL}


@pytest.mark.parametrize(("net", "form", "kind", "opt"), [
    ("some", "table", "obj", 2),
    *[pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("aggregates", "straight", "obj", 0), ("every", "straight", "obj", 1),
        ("layers", "shared", "obj", 3), ("aggregates", "table", "c", 2),
        ("every", "straight", "c", 2))],
])
def test_an_avr_gives_the_bits_of_the_host(tmp_path, net, form, kind, opt):
    graph = ncc.parse(NETS[net]).graph
    x = samples(graph)
    y = run(tmp_path, NETS[net], FORWARD, {"x": x}, "--form", form, "--batch-form", form,
            f"-O{opt}", "--no-backward", kind=kind)
    expected = graph.run(x, graph.values, dtype="f32", numerics="strict")
    for found in y.reshape(2, *expected.shape):
        same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["obj", "c"])
def test_an_avr_computes_gradients_and_trains(tmp_path, kind):
    graph, rng = ncc.parse(SMALL).graph, np.random.default_rng(3)
    x = rng.uniform(-1, 1, (11, len(graph.inputs))).astype(np.float32)
    dy = rng.standard_normal((11, len(graph.outputs))).astype(np.float32)
    classes = rng.integers(0, len(graph.outputs), (11, 1)).astype(np.float32)
    form = "table" if kind == "obj" else "straight"
    found = run(tmp_path, SMALL, GRADIENTS, {"x": x, "dy": dy, "target": classes}, "--train",
                "ce,sgd:momentum=0.9", "--backward-form", form, kind=kind)
    one = graph.gradient(x[0], dy[0], None, "f32", "strict")
    many = graph.gradient(x, dy, None, "f32", "strict")
    trainer = TrainStep(graph, "ce", "sgd:momentum=0.9", settings=Settings("f32", "strict"))
    for count in (11, 11, 11, 1):
        mean = trainer.step(x[:count], classes[:count], 0.05)
    same(found, np.concatenate([np.ravel(a) for a in (
        *one, *many, trainer.params, [mean], trainer.state)]).astype(np.float32))


@pytest.mark.slow
def test_a_stack_is_as_deep_as_the_header_says(tmp_path):
    x = np.zeros((3, 5), np.float32)
    used = run(tmp_path, SMALL, STACK, {"x": x}, "--form", "straight", "--no-backward")
    said = [int(n) for n in re.findall(r"It takes (\d+) bytes of stack",
                                       (tmp_path / "net.h").read_text())]

    for found, most in zip(used.tolist(), said, strict=True):
        assert most - 8 <= found <= most + 64  # the runtime's own come on top


# The quick ones have each size of return address and of instructions.
@pytest.mark.parametrize("cpu", [
    pytest.param(cpu, marks=[pytest.mark.slow] * (cpu not in ("atmega2560", "attiny85")))
    for cpu in CPUS["avr"].split()])
def test_objects_link_for_every_cpu(tmp_path, cpu):
    needs("avr-gcc")
    net = tmp_path / "net.nal"
    net.write_text("N 03\n00\n01\n02 sigmoid 00:2,01:3 +1\n")
    assert main(["build", str(net), "-o", str(tmp_path / "net.o"), "--target", cpu,
                 "--embed-weights"]) == 0
    (tmp_path / "main.c").write_text('#include "net.h"\nvolatile float x[2], y[1];\nint main(void)'
                                     "{ net_forward((float *)x, (float *)y, NULL); return 0; }\n")
    subprocess.run(["avr-gcc", f"-mmcu={cpu}", "-Wl,--fatal-warnings", "main.c", "net.o", "-lm"],
                   cwd=tmp_path, check=True)


def test_tables_are_no_memory(tmp_path):
    """In an object and in a C file alike: nothing is copied to memory before main."""
    needs("avr-gcc")
    net = tmp_path / "net.nal"
    net.write_text(SMALL)
    assert main(["build", str(net), "--emit", "obj,c", "-o", f"{tmp_path}/", "--target", CPU,
                 "--embed-weights", "--form", "table", "--batch-form", "table"]) == 0
    subprocess.run(["avr-gcc", f"-mmcu={CPU}", "-Os", "-std=gnu99", "-c", "net.c", "-o", "c.o"],
                   cwd=tmp_path, check=True)
    for name in ("net.o", "c.o"):
        shown = subprocess.run(["avr-size", "-A", name], cwd=tmp_path, check=True,
                               capture_output=True, text=True).stdout
        sizes = {line.split()[0]: int(line.split()[1]) for line in shown.splitlines()
                 if line.startswith(".")}
        assert sum(size for name, size in sizes.items() if name.startswith(".progmem"))
        assert not sum(size for name, size in sizes.items() if name.startswith(
            (".data", ".bss", ".rodata")))


def test_gnus_assembler_makes_the_same_object(tmp_path):
    needs("avr-as")
    (tmp_path / "net.nal").write_text(NETS["some"])
    assert main(["build", str(tmp_path / "net.nal"), "--emit", "obj,asm", "-o", f"{tmp_path}/",
                 "--target", "avr", "--no-backward", "--form", "table"]) == 0
    subprocess.run(["avr-as", "-mmcu=atmega328p", "net.s", "-o", "gnu.o"], cwd=tmp_path, check=True)
    assert symbols((tmp_path / "gnu.o").read_bytes()) == symbols((tmp_path / "net.o").read_bytes())


@pytest.mark.parametrize("embed", [["--embed-weights"], pytest.param([], marks=pytest.mark.slow)])
def test_what_16_bits_do_not_reach_is_refused(tmp_path, capfd, embed):
    (tmp_path / "net.nal").write_text(random_layers([180, 190, 2], 180, seed=1, weights=True))
    assert main(["build", str(tmp_path / "net.nal"), "-o", str(tmp_path / "net.o"), "--target",
                 "atmega2560", "--no-backward", "--form", "table", "--batch-form", "table",
                 *embed]) == 4
    assert "indices and addresses of 16 bits" in capfd.readouterr().err
    assert not (tmp_path / "net.o").exists()


# ---- division


def quotients():
    """Pairs of numbers, near and far, and what IEEE 754 says of their quotients."""
    rng = np.random.default_rng(8)
    a = rng.integers(0, 1 << 32, 400_000, dtype=np.uint32)
    b = rng.integers(0, 1 << 32, 400_000, dtype=np.uint32)
    b[::4] = b[::4] & 0x807FFFFF | a[::4] & 0x7F800000
    low = rng.integers(0, 24, len(b[1::4]), dtype=np.uint32)  # subnormal quotients
    b[1::4] = 0x7F000000 - (low << 23) | b[1::4] & 0x7FFFFF
    a[1::4] = a[1::4] & 0x807FFFFF | 0x3F000000
    a[2::8] &= 0x8000FFFF
    b[3::8] &= 0x800000FF
    edges = np.array([0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000,
                      0x7FC00000], np.uint32)
    pairs = np.stack(np.meshgrid(edges, edges | 0x80000000, [0, 1]), -1).reshape(-1, 3)[:, :2]
    a, b = [np.concatenate([v, w]).view(np.float32) for v, w in zip((a, b), pairs.T, strict=True)]
    with np.errstate(all="ignore"):
        return a, b, a / b


def test_division_in_llvm_is_exact():
    a, b, wanted = quotients()
    text = division("t") + """
        attributes #1 = { nounwind noinline norecurse }
        define void @all(i64 %n, ptr %a, ptr %b, ptr %y) {
        entry:
          br label %loop
        loop:
          %k = phi i64 [ 0, %entry ], [ %next, %loop ]
          %pa = getelementptr float, ptr %a, i64 %k
          %pb = getelementptr float, ptr %b, i64 %k
          %py = getelementptr float, ptr %y, i64 %k
          %va = load float, ptr %pa
          %vb = load float, ptr %pb
          %v = call float @t.divide(float %va, float %vb)
          store float %v, ptr %py
          %next = add i64 %k, 1
          %end = icmp eq i64 %next, %n
          br i1 %end, label %done, label %loop
        done:
          ret void
        }
    """
    loaded = Loaded(Machine(host()).object(text), ["all"])
    y = np.empty_like(wanted)
    call = ctypes.CFUNCTYPE(None, ctypes.c_size_t, *[ctypes.c_void_p] * 3)(loaded.addresses["all"])
    call(len(y), a.ctypes.data, b.ctypes.data, y.ctypes.data)
    same(y, wanted)


def test_division_in_c_is_exact(tmp_path):
    needs("gcc")
    a, b, wanted = quotients()
    marks = {"p": "t", "real": "float", "w": "uint32_t", "f": "f", "top": "UINT32_C(0x80000000)"}
    (tmp_path / "t.c").write_text(
        "#include <stdint.h>\n#include <stddef.h>\n"
        + "".join([HELPERS[name].format(**marks) for name in ("to_bits", "from_bits", "divide")])
        + "void all(size_t n, const float *a, const float *b, float *y)\n"
          "{ for (size_t k = 0; k < n; k++) y[k] = t_divide(a[k], b[k]); }\n")
    subprocess.run(["gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror",
                    "-D__AVR__", "-O1", "-shared", "-fPIC", "-o", "t.so", "t.c"],
                   cwd=tmp_path, check=True)
    y = np.empty_like(wanted)
    ctypes.CDLL(tmp_path / "t.so").all(ctypes.c_size_t(len(y)), *[
        v.ctypes.data_as(ctypes.c_void_p) for v in (a, b, y)])
    same(y, wanted)


# ---- what there is not


@pytest.mark.parametrize(("options", "code", "said"), [
    (["--target", "avr", "--dtype", "f64"], "E603", "avr has no f64"),
    (["--target", "avr", "--numerics", "fused"], "E603", "no f32 fused"),
    (["--target", "xtensa"], "E610", "no back end for Xtensa"),
    (["--target", "esp32"], "E610", "--emit c"),
    (["--target", "msp430-elf"], "E610", "an experiment"),
])
def test_what_there_is_not_says_what_there_is(tmp_path, capfd, options, code, said):
    (tmp_path / "net.nal").write_text(SMALL)
    assert main(["build", str(tmp_path / "net.nal"), "-o", str(tmp_path / "o.o"), *options]) == 2
    error = capfd.readouterr().err
    assert code in error and said in error


def test_an_engines_indices_are_too_long(tmp_path, capfd):
    assert main(["build", "--emit", "engine", "--kinds", "sum:tanh", "--target", "avr", "-o",
                 str(tmp_path / "e.o")]) == 2
    assert "E604" in capfd.readouterr().err


def test_the_names_of_cpus_are_targets():
    assert target("atmega2560").cpu == "atmega2560"
    assert target("avr", "attiny85").triple == target("avr").triple
    with pytest.raises(NccError, match="E611"):
        target("avr", "cortex-m0")
