"""Compiles that would take too much: refused, or made in a child whose death is an error."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal

import ncc
from ncc.driver import compiler as build
from ncc.driver.pipeline import PIPELINE, taken
from ncc.driver.settings import options
from ncc.errors import NccError
from ncc.machine import codegen, limits
from ncc.machine.codegen import Codegen
from ncc.machine.limits import Need
from ncc.machine.llvm import NUMBERED, Machine, host, target
from ncc.machine.targets import TARGETS
from ncc.runtime import tune

ROOT = Path(__file__).parents[2]
XOR = "N 05\n00\n01\n02 tanh 00:1,01:1\n03 relu 00:1,01:-1\n04 sigmoid 02:1,03:1\n"
XOR_NET = ncc.parse(XOR)
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
# What a stand-in for a child runs in place of ours.
STAND_IN = "import sys; sys.path[:] = sys.argv[1:]; import os, signal, time; "


@pytest.fixture
def always_a_child(monkeypatch):
    """Whatever is compiled is compiled in a child."""
    monkeypatch.setattr(codegen, "SMALL", 0)
    monkeypatch.setattr(codegen, "LARGE", 0.0)


@pytest.fixture
def stand_in(monkeypatch, always_a_child):
    def put(code):
        monkeypatch.setattr(codegen, "ENTRY", STAND_IN + code)

    return put


def sums(count, block=500):
    """The text of a function of `count` additions, each of the one before, in blocks."""
    lines = ["define float @f(float %v0) {"]
    for k in range(1, count):
        if k % block == 0:
            lines += [f"  br label %b{k}", f"b{k}:"]
        lines.append(f"  %v{k} = fadd float %v{k - 1}, %v0")
    return "\n".join([*lines, f"  ret float %v{count - 1}", "}", ""])


def script(code, *, memory=None, **environment):
    """(status, standard output, standard error) of a Python program, with so many bytes of
    address space."""
    limit = "" if memory is None else f"ulimit -v {memory // 1000}; "
    done = subprocess.run(
        ["sh", "-c", limit + 'exec "$0" "$@"', sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    return done.returncode, done.stdout, done.stderr


def children():
    """The processes whose parent this one is, zombies among them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


# ---- the child


@pytest.mark.parametrize("kind", (
    pytest.param("object", marks=pytest.mark.slow),
    pytest.param("assembly", marks=pytest.mark.slow), "bitcode"))
def test_a_child_makes_the_same(always_a_child, kind):
    for aim, opt in ((target("x86-64-v3"), 2), (target("cortex-m0"), 0), (host(), 3)):
        text = ncc.driver.compiler.Build(ncc.parse(XOR).graph, aim, options(aim)).llvm
        made = getattr(Codegen(aim, opt), kind)(text)
        assert made == getattr(Machine(aim, opt), kind)(text)


def test_bitcode_is_that_of_its_text_alone():
    machine = Machine(host(), 2)
    text = "define void @f() {\n  ret void\n}\n"
    made = machine.bitcode(text)
    machine.bitcode("define void @g() {\n  ret void, !of.another.module !0\n}\n!0 = !{}\n")
    assert machine.bitcode(text) == made


def test_a_compile_in_a_child_computes_the_same(always_a_child):
    net = ncc.parse(to_nal(some_net(3)))
    x = np.linspace(-1, 1, 3 * len(net.graph.inputs)).reshape(3, -1)
    made = ncc.compile(net, params=np.linspace(-1, 1, net.graph.n_params))
    usual = pytest.MonkeyPatch()
    usual.setattr(codegen, "SMALL", math.inf)
    with usual.context():
        wanted = ncc.compile(net, params=np.linspace(-1, 1, net.graph.n_params))
    usual.undo()
    assert made(x).tobytes() == wanted(x).tobytes()


def test_what_llvm_refuses_a_child_refuses_too(always_a_child):
    with pytest.raises(NccError, match="LLVM refuses the module") as caught:
        Codegen(host()).object("define void @f() { ret i32 }\n")
    assert (caught.value.code, caught.value.status) == ("E700", 70)


@linux
@pytest.mark.parametrize("name", ("SIGKILL", "SIGABRT", "SIGSEGV"))
def test_the_death_of_a_child_is_an_error(stand_in, name):
    stand_in(f"sys.stdin.buffer.read(9); os.kill(os.getpid(), signal.{name}); time.sleep(60)")
    before = children()
    with pytest.raises(NccError) as caught:
        ncc.compile(ncc.parse(XOR))
    error = caught.value
    assert (error.code, error.status) == ("E400", 4)
    assert name in error.message and "5 edges, " not in error.message
    assert "6 edges, form straight, batch-form straight" in error.message
    assert "--form table or --batch-form table or -O0" in error.help
    assert children() == before


def test_memory_that_runs_out_in_a_child_is_said(stand_in):
    for code in ("raise MemoryError", "sys.stderr.write('LLVM ERROR: out of memory'); os.abort()",
                 "sys.stderr.write('terminate called: std::bad_alloc'); os.abort()"):
        stand_in(f"sys.stdin.buffer.read()\n{code}")
        with pytest.raises(NccError, match="it ran out of memory after") as caught:
            ncc.compile(ncc.parse(XOR))
        assert caught.value.status == 4


def test_another_fatal_error_of_llvm_is_a_fault_of_ours(stand_in):
    stand_in("sys.stderr.write('LLVM ERROR: Cannot select: t1'); sys.stderr.flush(); os.abort()")
    with pytest.raises(NccError, match="Cannot select") as caught:
        ncc.compile(ncc.parse(XOR))
    assert (caught.value.code, caught.value.status) == ("E700", 70)


@pytest.mark.parametrize("code", ("pass", "print('hello')", "print(1/0)", "print('{\"size\": 9}')"))
def test_a_child_without_a_whole_answer_is_an_error(stand_in, code):
    stand_in(code)
    with pytest.raises(NccError, match="LLVM did not make the code") as caught:
        ncc.compile(ncc.parse(XOR))
    assert caught.value.status == 4


@linux
def test_time_that_runs_out_ends_the_child(stand_in):
    stand_in("from ncc.machine import limits; limits.restrict(None, 1)\nwhile True: pass")
    with pytest.raises(NccError, match=r"was not made within 60 s of CPU") as caught:
        ncc.compile(ncc.parse(XOR))
    assert caught.value.status == 4
    assert "--no-limit (limit=False) goes on" in caught.value.help


@linux
def test_the_address_space_of_a_child_is_limited(stand_in):
    """Also where the parent's is not: memory that others need stays theirs."""
    stand_in("from ncc.machine import limits; limits.restrict(100e6, None); bytearray(80 * 10**6)\n"
             "try: bytearray(120 * 10**6)\n"
             "except MemoryError: print('{\"error\": [\"E999\", \"held\", \"\", 1]}')")
    with pytest.raises(NccError, match="held"):
        ncc.compile(ncc.parse(XOR))


@pytest.mark.slow
def test_threads_compile_at_once(always_a_child):
    nets = [ncc.parse(to_nal(some_net(seed))) for seed in range(4)]
    made = {}

    def compiled(k):
        made[k] = build.Build(nets[k].graph, host(), options(host())).object()

    threads = [threading.Thread(target=compiled, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, net in enumerate(nets):
        text = build.Build(net.graph, host(), options(host())).llvm
        assert made[k] == Machine(host()).object(text)


def test_a_program_without_an_interpreter_goes_by_the_estimate(always_a_child, monkeypatch):
    text = ncc.driver.compiler.Build(ncc.parse(XOR).graph, host(), options(host())).llvm
    wanted = Machine(host()).object(text)

    def none(*_, **__):
        raise AssertionError("a child was started")

    monkeypatch.setattr(subprocess, "Popen", none)
    for path in ("", None, "/opt/blender/blender"):
        monkeypatch.setattr(sys, "executable", path)
        assert Codegen(host(), seconds=60).object(text) == wanted
        with monkeypatch.context() as short:
            short.setattr(limits, "left", lambda: 10e6)
            short.setattr(limits, "shared", lambda: 10e6)
            with pytest.raises(NccError, match="of the 10 MB left"):
                Codegen(host(), seconds=60).object(text)


def test_where_no_process_can_be_started_it_goes_by_the_estimate(always_a_child, monkeypatch):
    def none(*_, **__):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none)
    assert ncc.compile(ncc.parse(XOR))([1, 1]).shape == (1,)


# ---- hosts under a limit


HOST = """
    import os, resource, sys, ncc
    from ncc.machine.codegen import Codegen
    from ncc.machine.llvm import host
    sys.path[:0] = {tests!r}
    from test_limits import XOR, sums
    text = sums(100_000)
    now = int(open("/proc/self/status").read().split("VmSize:")[1].split()[0]) * 1024
    resource.setrlimit(resource.{kind}, (now + {more},) * 2)
    try:
        print(len(Codegen(host(), seconds=60).object(text)))
    except ncc.NccError as error:
        print(error.code, error.status, error.message)
    print(ncc.compile(ncc.parse(XOR))([1, 1]).shape)
    try:
        print(os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("no child")
"""


@linux
@pytest.mark.parametrize("more", (
    40_000_000, pytest.param(2_000_000_000, marks=pytest.mark.slow)))
def test_a_python_host_survives_what_llvm_has_no_memory_for(tmp_path, more):
    """Here LLVM takes 120 MB, and would abort the process."""
    code = HOST.format(tests=[str(ROOT / "tests" / room) for room in ("support", "machine")],
                       kind="RLIMIT_AS", more=more)
    status, out, err = script(f"import os\nos.chdir({str(tmp_path)!r})\n" + textwrap.dedent(code),
                              OPENBLAS_NUM_THREADS="1")
    assert status == 0, err
    first, *rest = out.split("\n")
    if more > 1e9:
        assert int(first) > 400_000
    else:
        assert first.startswith("E400 4 LLVM did not make the code of this net: it "), first
        assert "MB to take, about" in first
    assert rest == ["(1,)", "no child", ""]
    assert list(tmp_path.iterdir()) == []


@linux
def test_the_command_survives_what_it_has_no_memory_for(tmp_path):
    (tmp_path / "net.nal").write_text(random_layers([250] * 4, 50))
    words = ["build", str(tmp_path / "net.nal"), "--form", "straight", "-o", str(tmp_path / "o.o")]
    code = f"import sys; from ncc.cli import main; sys.exit(main({words!r}))"
    status, out, err = script(code, memory=345_000_000)
    assert (status, out) == (4, ""), err
    assert err.startswith("error[E400]: ") and "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["net.nal"]


@linux
@pytest.mark.slow
def test_a_usual_net_needs_no_more_than_usual(tmp_path):
    (tmp_path / "net.nal").write_text(random_layers([20] * 3, 5))
    words = ["build", str(tmp_path / "net.nal"), "-o", str(tmp_path / "o.o")]
    code = f"import sys; from ncc.cli import main; sys.exit(main({words!r}))"
    for memory in (500_000_000, 1_500_000_000):
        status, out, err = script(code, memory=memory)
        assert (status, out) == (0, "") and ": flash " in err and err.count("\n") == 1


@linux
@pytest.mark.parametrize("whom", ("one", "group"))
def test_an_interrupt_ends_the_child_too(tmp_path, whom):
    note = tmp_path / "pid"
    (tmp_path / "net.nal").write_text(XOR)
    words = ["build", str(tmp_path / "net.nal"), "-o", str(tmp_path / "o.o")]
    entry = (f"{STAND_IN}open({str(note)!r} + '+', 'w').write(str(os.getpid())); "
             f"os.rename({str(note)!r} + '+', {str(note)!r}); "
             "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(120)")
    code = (f"import sys; from ncc.machine import codegen; from ncc import cli; codegen.SMALL = "
            f"codegen.LARGE = 0; "
            f"codegen.ENTRY = {entry!r}; sys.exit(cli.main({words!r}))")
    program = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    pid = _appearing(note)
    (os.killpg if whom == "group" else os.kill)(program.pid, signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 130 and "Traceback" not in err
    assert not Path(f"/proc/{pid}").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.nal", "pid"]


@linux
def test_a_child_does_not_outlive_its_parent(tmp_path):
    note = tmp_path / "pid"
    child = ("import os, threading, time; from pathlib import Path; from ncc.machine import "
             "codegen; "
             f"Path({str(note)!r} + '+').write_text(str(os.getpid())); "
             f"os.rename({str(note)!r} + '+', {str(note)!r}); "
             "threading.Thread(target=codegen._outlive, args=(os.getppid(),)).start(); "
             "time.sleep(120)")
    program = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; "
         f"subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"],
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    pid = _appearing(note)
    program.kill()
    program.wait()
    for _ in range(600):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it lived on")


def _appearing(note):
    for _ in range(600):
        if note.exists():
            return int(note.read_text())
        time.sleep(0.1)
    pytest.fail(f"no {note}")


@pytest.mark.slow
def test_an_installed_package_starts_its_own_child(tmp_path):
    """As pip lays it out, imported by a path that the environment does not know."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "ncc", site / "ncc", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "elsewhere").mkdir()
    code = (f"import sys; sys.path.insert(0, {str(site)!r}); import ncc; from ncc.machine import "
            f"codegen; "
            "codegen.SMALL = codegen.LARGE = 0; codegen.ENTRY = codegen.ENTRY.replace('main()', "
            "'import ncc; sys.stderr.write(ncc.__file__); {}'); "
            f"print(ncc.compile(ncc.parse({XOR!r}), cache=False)([1, 1]).shape)")
    for end, status, said in (("sys.exit(3)", 1, str(site / "ncc" / "__init__.py")),
                              ("main()", 0, "")):
        done = subprocess.run([sys.executable, "-c", code.replace("{}", end)],
                              capture_output=True, text=True, cwd=tmp_path / "elsewhere",
                              env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
        assert done.returncode == status and said in done.stderr, done.stderr
        assert done.stdout == ("(1,)\n" if end == "main()" else "")


# ---- what is foreseen


def test_what_would_take_too_long_is_refused(monkeypatch, ncc_, tmp_path):
    """Before the passes run, and again when the text is there; and there is a way on."""
    monkeypatch.setattr(limits, "LEAST", 0.0)
    monkeypatch.setattr(limits, "TIMES", 1e-9)
    net = ncc.parse(XOR)
    with pytest.raises(NccError, match="6 edges, form straight.*would take about") as caught:
        ncc.compile(net, form="straight")
    error = caught.value
    assert (error.code, error.status) == ("E400", 4)
    assert "--form " in error.help and "--no-limit (limit=False) goes on" in error.help
    assert ncc.compile(net, form="straight", limit=False)([1, 1]).shape == (1,)
    (tmp_path / "x.nal").write_text(XOR)
    words = ["build", tmp_path / "x.nal", "-o", tmp_path / "x.o"]
    status, out, err = ncc_(*words)
    assert (status, out) == (4, "") and err.startswith("error[E400]: ")
    assert not (tmp_path / "x.o").exists()
    assert ncc_(*words, "--no-limit")[:2] == (0, "")

    monkeypatch.setattr(limits, "straight", lambda plan: Need(0, 0))
    monkeypatch.setattr(codegen, "SMALL", 0)
    monkeypatch.setattr(codegen, "LONG", 0.0)
    with pytest.raises(NccError, match="would take about"):
        ncc.compile(net)


def test_straight_code_far_beyond_the_bound_is_refused_before_any_pass(monkeypatch, ncc_, tmp_path):
    monkeypatch.setattr("ncc.driver.compiler.beyond", None)  # the passes after the plan
    (tmp_path / "net.nal").write_text(random_layers([60] * 6, 8, seed=1))
    for words in (["--backward-form", "straight"],
                  ["--backward-form", "straight", "--emit", "asm", "--backward"],
                  ["--target", "aarch64", "--backward-form", "straight"]):
        status, _, err = ncc_("build", tmp_path / "net.nal", "-o", tmp_path / "x", *words)
        asked = next(f"{w} straight" for w in words if w.endswith("-form"))
        assert status == 4, err
        assert err.startswith("error[E400]: the code of this net (2,400 edges, ")
        assert "beyond the bound of" in err and f"no {asked}" in err and "--no-limit" in err
        assert not (tmp_path / "x").exists()


def test_straight_code_beyond_the_bound_is_refused_by_its_text(monkeypatch):
    monkeypatch.setattr(limits, "ASKED", 1e-3)
    monkeypatch.setattr(limits, "UNNOTICED", 0.0)
    asked = {"batch_form": "straight", "form": "straight"}
    with pytest.raises(NccError, match="would take about .* s and .* MB to compile, beyond the bo"
                       ) as caught:
        ncc.compile(XOR_NET, cache=False, **asked)
    assert (caught.value.code, caught.value.status) == ("E400", 4)
    assert "no --batch-form straight" in caught.value.help
    assert ncc.compile(XOR_NET, cache=False, limit=False, **asked)([1, 1]).shape == (1,)


def test_no_default_form_is_refused_near_the_bound(monkeypatch):
    """Nor one that was found by timing, nor a table."""
    for name in ("ASKED", "BY_EDGES", "UNNOTICED"):
        monkeypatch.setattr(limits, name, 1e-9)
    monkeypatch.setattr(tune, "ROUNDS", 1)
    monkeypatch.setattr(tune, "SECONDS", 1e-6)
    for asked in ({}, {"form": "table", "batch_form": "table"}, {"tune": True}):
        assert ncc.compile(XOR_NET, cache=False, **asked).vjp([1, 1])[0].shape == (1,)


@pytest.mark.parametrize("name", [
    "x86-64-v3", pytest.param("aarch64", marks=pytest.mark.slow), "cortex-m4f", "rv32imac",
    "wasm32"])
def test_small_straight_code_is_not_refused(name, ncc_, tmp_path):
    net = ROOT / "examples" / "rnn_2x3_h4.nam"
    for forms in (["--form"], ["--batch-form"], ["--backward-form"],
                  ["--form", "--batch-form", "--backward-form"]):
        words = [word for form in forms for word in (form, "straight")]
        assert ncc_("build", net, "--target", name, "-o", tmp_path / "x.o", *words)[0] == 0


def test_tuning_passes_over_what_would_take_too_much(monkeypatch):
    """Straight code, here; the other forms are still timed."""
    monkeypatch.setattr(limits, "straight", lambda plan: Need(
        1e30 * (plan.single.form == "straight"), 0))
    monkeypatch.setattr(build, "MANY", 0)
    monkeypatch.setattr(tune, "ROUNDS", 1)
    monkeypatch.setattr(tune, "SECONDS", 1e-6)
    graph = ncc.parse(XOR).graph
    found = tune.tuned(graph, host(), options(host()), cached=False)
    assert found["form"] != "straight" and found["batch_form"] != "straight"


def test_training_has_the_limit_too(monkeypatch, ncc_, tmp_path):
    monkeypatch.setattr(limits, "LEAST", 0.0)
    monkeypatch.setattr(limits, "TIMES", 1e-9)
    (tmp_path / "x.nal").write_text(XOR)
    (tmp_path / "x.csv").write_text("0,0\n0,1\n1,0\n1,1\n")
    (tmp_path / "y.csv").write_text("0\n1\n1\n0\n")
    words = ["train", tmp_path / "x.nal", "--data", tmp_path / "x.csv", "--target",
             tmp_path / "y.csv", "-o", tmp_path / "w.txt", "--epochs", "1", "--quiet"]
    status, _, err = ncc_(*words)
    assert status == 4 and err.startswith("error[E400]: ")
    assert ncc_(*words, "--no-limit")[0] == 0
    fn, _ = ncc.fit(XOR_NET, [[0, 1]], [1], epochs=1, limit=False)
    assert fn.vjp([1, 1])[0].shape == (1,)


def test_what_would_take_too_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(build, "MANY", 0)
    monkeypatch.setattr(limits, "left", lambda: 1000.0)
    net = ncc.parse(XOR)
    with pytest.raises(NccError, match="would take about 0 MB of the 0 MB left") as caught:
        ncc.compile(net, form="straight")
    assert caught.value.status == 4
    assert ncc.compile(net, form="table", batch_form="table")([1, 1]).shape == (1,)


def test_a_pass_without_memory_is_an_error(monkeypatch):
    """In Python too: a MemoryError of numpy's is one of ours."""
    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr("ncc.driver.compiler.walk", none)
    with pytest.raises(NccError, match="not enough memory to compile this net") as caught:
        ncc.compile(ncc.parse(XOR))
    assert (caught.value.code, caught.value.status) == ("E400", 4)


def test_a_limit_does_not_change_what_the_cache_finds():
    aim = host()
    graph = ncc.parse(XOR).graph
    keys = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCC_CACHE_SIZE", "1M")
        for limit in (True, False):
            made = build.Build(graph, aim, options(aim, limit=limit))
            keys.add(made._key("object"))
    assert len(keys) == 1 and None not in keys


def test_the_limit_is_no_option_of_a_pass(ncc_, tmp_path):
    """`split` once took it for its own: an op to each piece."""
    assert not any("limit" in taken(call) for call in PIPELINE)
    (tmp_path / "net.nal").write_text(random_layers([20, 20, 20], 10, seed=1))
    words = ["build", tmp_path / "net.nal", "--target", "aarch64", "--form", "straight",
             "--batch-form", "straight", "--emit", "ssa"]
    _, limited, _ = ncc_(*words)
    assert limited == ncc_(*words, "--no-limit")[1] != ""
    assert limited.count("\ninternal ") < 10


def test_what_takes_no_time_is_not_refused():
    assert limits.breaks(Need(0, 2.0), 1.0, 1.5) and not limits.breaks(Need(0, 1.4), 1.0, 1.5)
    assert not limits.breaks(Need(0, 0.4), 0.1, 1.5) and not limits.breaks(Need(0, 9.0), None, 1.5)


def test_the_bound_is_the_guide_s():
    assert limits.bound(0, 0, False) == 0.15
    assert limits.bound(1_000_000, 10, False) == pytest.approx(60.17)
    assert limits.bound(1_000_000, 10, True) == pytest.approx(2.5 * 60.17)
    assert limits.bound(1_000_000, 10, True, True) == pytest.approx(5 * 60.17)
    assert limits.longest(1000, 1, True) == 60
    assert limits.longest(1_000_000, 10, False) == pytest.approx(20 * 60.17)


def test_estimates_grow_with_what_there_is_to_do():
    """Linearly with functions, and worse than that with their blocks."""
    one, two = sums(5000, 5000), sums(10000, 10000)
    for arch, opt in (("x86_64", 2), ("x86_64", 0), ("aarch64", 2)):
        small, large = limits.estimate(one, arch, opt), limits.estimate(two, arch, opt)
        both = limits.estimate(one + one, arch, opt)
        assert small.memory < both.memory < large.memory
        assert small.seconds < both.seconds < large.seconds
    calls = one.replace("  br label", "  call fastcc void @g()\n  br label")
    apart = calls.replace("  %v250 =", "  call fastcc void @g()\n  %v250 =")
    assert limits.estimate(apart, "aarch64", 2).seconds < limits.estimate(
        calls, "aarch64", 2).seconds
    loops = one.replace("(float %v0) {", "(float %v0) #2 {\nentry:")
    assert limits.estimate(loops, "x86_64", 2).seconds > limits.estimate(one, "x86_64", 2).seconds
    assert limits.estimate("", "x86_64", 2).seconds > 0


@pytest.mark.parametrize(("blocks", "kept"), [(2, 1), (NUMBERED, 1), (NUMBERED + 1, 2)])
def test_values_are_numbered_in_functions_of_few_blocks(blocks, kept):
    """The last block adds what the first one added: where values are numbered, once."""
    text = ["define float @f(float %x, float %y, ptr %p) #0 {", "b0:", "  %a = fadd float %x, %y"]
    for k in range(1, blocks):
        text += ["  store volatile float %x, ptr %p", f"  br label %b{k}", f"b{k}:"]
    text += ["  %b = fadd float %x, %y", "  %c = fmul float %a, %b", "  ret float %c", "}",
             'attributes #0 = { "loops" }', ""]
    made = str(Machine(TARGETS["x86-64-v3"]).module("\n".join(text)))
    assert made.count("fadd") == kept
    assert str(Machine(TARGETS["x86-64-v3"], 0).module("\n".join(text))).count("fadd") == 2


# ---- what there is


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:   8000 kB\n",
           "proc/self/cgroup": "", "proc/self/statm": "100 1 1 1 0 1 0\n"}


def test_the_machine_s_memory_is_what_is_available(tmp_path):
    assert limits.shared(tree(tmp_path, MACHINE)) == 8000 * 1024


def test_a_control_group_leaves_less(tmp_path):
    """Version 2, and its parents': the page cache of files that nobody uses counts as free."""
    group = "sys/fs/cgroup/a/b"
    root = tree(tmp_path, {
        **MACHINE, "proc/self/cgroup": "1:name=systemd:/\n0::/a/b\n",
        f"{group}/memory.max": "max\n", f"{group}/memory.current": "5\n",
        "sys/fs/cgroup/a/memory.max": "5000000\n", "sys/fs/cgroup/a/memory.current": "4000000\n",
        "sys/fs/cgroup/a/memory.stat": "anon 7\ninactive_file 300000\nactive_file 9\n"})
    assert limits.shared(root) == 1_300_000
    (root / group / "memory.max").write_text("100005\n")
    assert limits.shared(root) == 100_000


def test_a_control_group_of_version_1_leaves_less(tmp_path):
    """In a container its files stand at the top, whatever the path says."""
    top = "sys/fs/cgroup/memory"
    root = tree(tmp_path, {
        **MACHINE, "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/0123\n",
        f"{top}/memory.limit_in_bytes": "3000000\n", f"{top}/memory.usage_in_bytes": "2500000\n",
        f"{top}/memory.stat": "cache 1\ntotal_inactive_file 100000\n"})
    assert limits.shared(root) == 600_000


def test_nothing_said_is_nothing_known(tmp_path):
    assert limits.shared(tmp_path) > 0
    assert limits.left() > 0


@linux
def test_a_process_s_own_limits_leave_less():
    for kind, field in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
        status, out, err = script(
            "import resource; from ncc.machine import limits; "
            f"resource.setrlimit(resource.{kind}, (10**9, 10**9)); "
            "print(limits.left()); print(open('/proc/self/status').read())")
        assert status == 0, err
        now = int(out.split(field + ":")[1].split()[0]) * 1024
        assert abs(float(out.split("\n")[0]) - (10**9 - now)) < 1e6 and now > 1e7
