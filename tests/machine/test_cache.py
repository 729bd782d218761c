"""The cache of compiled objects: what it finds, what it must not find, and what may go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.cli import main
from ncc.driver import compiler as build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.machine import cache
from ncc.machine.cache import Entry
from ncc.machine.llvm import Machine, host

NET = """N 05
00
01
02 tanh 00:0.5,01:-1.25 +0.25
03 relu 00:1,02:0.5
04 0 02:1,03:-2
"""
X = np.random.default_rng(3).standard_normal((70, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of this test's own, not made yet."""
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("NCC_CACHE_SIZE")
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text(NET)
    return tmp_path / "kept"


@pytest.fixture
def passes(monkeypatch):
    """The names of the steps that run, `object` for LLVM's."""
    ran = []
    walk, emit = build.walk, Machine.object

    def walks(level, common, watch=None, *, until=str, **more):
        ran.append(until.__name__)
        return walk(level, common, watch, until=until, **more)

    def emits(self, text):
        ran.append("object")
        return emit(self, text)

    monkeypatch.setattr(build, "walk", walks)
    monkeypatch.setattr(Machine, "object", emits)
    return ran


def named(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


# ---- what is found


def test_a_second_compile_runs_no_pass_and_has_the_same_bits(passes, folder):
    net = ncc.parse(NET)
    expected = net.graph.run(X, net.params)
    for how in ({}, {"form": "table", "batch_form": "table"}, {"dtype": "f64"}):
        made = ncc.compile(net, **how)
        assert "object" in passes
        passes.clear()
        kept = ncc.compile(net, **how)
        assert passes == []
        if "dtype" not in how:
            assert np.array_equal(kept(X), expected) and np.array_equal(kept(X[3]), expected[3])
        assert np.array_equal(kept(X), made(X))
        assert kept._library.functions == made._library.functions
    assert len(named(folder)) == 3


def test_parameters_do_not_count_unless_they_are_embedded(passes):
    net = ncc.parse(NET)
    ncc.compile(net)
    passes.clear()
    other = ncc.parse(NET.replace("0.5", "0.75"))
    bare = ncc.parse(NET.replace(":0.5", ""))
    assert np.array_equal(ncc.compile(other)(X), other.graph.run(X, other.params))
    assert np.array_equal(ncc.compile(bare, other.params)(X), other.graph.run(X, other.params))
    assert passes == []
    objects = []
    for text in (NET, NET.replace("0.5", "0.75"), NET):
        Path("net.nal").write_text(text)
        passes.clear()
        assert main(["build", "net.nal", "--embed-weights"]) == 0
        objects.append(Path("net.o").read_bytes())
        assert ("object" in passes) == (len(objects) < 3)
    assert objects[0] == objects[2] != objects[1]


@pytest.mark.parametrize("how", [
    {}, {"form": "table", "batch_form": "table"}, {"numerics": "fast"}, {"gradient": True},
    {"gradient": True, "form": "table", "batch_form": "table"}, {"dtype": "f64"},
    {"gradient": True, "loss": "mse", "optimizer": "adam", "apart": True},
])
def test_no_pass_looks_at_the_values_of_parameters(how):
    """Or they would have to be part of the key: equal ones, zeros, and some that are missing."""
    graph = ncc.parse(NET).graph
    objects = []
    for values in (graph.values, np.zeros(7), np.ones(7), np.full(7, np.nan), np.arange(7.0)):
        made = build.Build(graph.with_(values=values), host(), options(host(), **how),
                           along=AFTER_ORDER)
        objects.append((made.object(), made.made.facts, made.header().replace(
            build.graph_hash(made.graph), "")))
    assert all(o == objects[0] for o in objects)


@pytest.mark.parametrize("how", [
    {"opt": 0}, {"opt": 3}, {"dtype": "f64"}, {"numerics": "strict"}, {"numerics": "fast"},
    {"form": "table"}, {"batch_form": "table"},
])
def test_every_option_counts(passes, how):
    net = ncc.parse(NET)
    ncc.compile(net)
    passes.clear()
    ncc.compile(net, **how)
    assert "object" in passes


@pytest.mark.parametrize("change", [
    ("tanh", "sigmoid"), ("00:0.5,01:-1.25", "01:0.5,00:-1.25"), ("+0.25", "+=0.25"),
    ("02:1,03:-2", "02:@a,03:@a"), ("04 0 ", "04 max "), ("N 05\n", "N 05\nout 04,02\n"),
    ("02:1,03:-2", "02:=1,03:-2"), ("02:1,03:-2", "02:1"), ("04 0 ", "04 0 mul "),
])
def test_the_whole_net_counts(passes, change):
    ncc.compile(ncc.parse(NET))
    passes.clear()
    text = NET.replace(*change).replace(":@", "@").replace("04 max", "04 0 max")
    assert text != NET
    net = ncc.parse(text)
    fn = ncc.compile(net, np.linspace(-1, 1, net.n_params))
    assert "object" in passes
    assert np.array_equal(fn(X), net.graph.run(X, np.linspace(-1, 1, net.n_params)))


def test_two_constants_are_two_nets(passes):
    for value in ("1", "2"):
        net = ncc.parse(f"N 03\n00\n01\n02 0 00:={value},01:=3\n")
        assert ncc.compile(net)([1, 1]).tolist() == [float(value) + 3]
    assert passes.count("object") == 2


def test_the_machine_and_the_compiler_count(monkeypatch, passes):
    graph = ncc.parse(NET).graph
    target = host()
    chosen = options(target)

    def compiles():
        passes.clear()
        build.Build(graph, target, chosen, cached=True,
                    along=AFTER_ORDER).object()
        return "object" in passes

    assert compiles() and not compiles()
    changed = build.Target(**{**target.__dict__, "features": target.features + ",-avx512bf16"})
    target = changed
    assert compiles() and not compiles()
    monkeypatch.setattr(cache, "_compiler", lambda: b"another compiler")
    assert compiles() and not compiles()
    monkeypatch.setattr(cache, "_compiler", lambda: None)  # it cannot read its own sources
    assert compiles() and compiles()


def test_a_changed_source_is_another_compiler(monkeypatch, tmp_path):
    digest = cache._compiler.__wrapped__
    assert digest() == digest() == cache._compiler()
    real = {name: cache.files(name) for name in ("ncc", "ncc.passes", "ncc.grammar")}
    copies = {}
    for name, source in real.items():
        copies[name] = tmp_path / name
        links = ("passes", "grammar") if name == "ncc" else ()
        shutil.copytree(source, copies[name],
                        ignore=shutil.ignore_patterns("__pycache__", *links))
    monkeypatch.setattr(cache, "files", copies.__getitem__)
    assert digest() == cache._compiler()
    for file in ("ncc/errors.py", "ncc/ir/ssa.py", "ncc.passes/ssa/cse.py",
                 "ncc.passes/lower/lower.py", "ncc.grammar/ssa.lark"):
        path = tmp_path / file
        text = path.read_bytes()
        path.write_bytes(text.replace(b"e", b"f", 1))
        assert digest() != cache._compiler()
        path.write_bytes(text)
        assert digest() == cache._compiler()
    path.rename(path.with_name("gone.lark"))
    assert digest() != cache._compiler()
    monkeypatch.setattr(cache, "LLVM", "another")
    assert digest() != cache._compiler()
    monkeypatch.setattr(cache, "files", lambda name: tmp_path / "no such folder")
    assert digest() is None


def test_every_package_is_part_of_the_compiler():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    for package in project["tool"]["setuptools"]["packages"]:
        assert package.startswith(cache.PACKAGES)
    named = [p for packages in project["tool"]["setuptools"]["package-data"].values()
             for p in packages]
    # And what else makes code would have to be read; `.mjs` and `.d.mts` stand beside a module, a
    # page of HTML is around one.
    assert set(named) <= {"py.typed", "*.lark", "*.m*s", "*.html"}


def test_a_pass_that_is_not_nccs_own_is_not_cached(monkeypatch, passes, folder):
    def other(graph: build.Graph) -> build.Graph:
        return graph

    graph = ncc.parse(NET).graph
    along = [build.Step(other, {}), *AFTER_ORDER]
    build.Build(graph, host(), options(host()), along=along, cached=True).object()
    assert not folder.exists()


def test_keys_tell_values_apart():
    a = np.arange(6, dtype=np.int32)
    parts = [
        (), (None,), (0,), (0.0,), (-0.0,), (False,), ("0",), ("",), ([],), ({},), ([0],), ([[0]],),
        (0, 0), ("a", "b"), ("ab",), (["a"], "b"), (["a", "b"],), ({"a": "b"},), (a,), (a[::-1],),
        (a.astype(np.int64),), (a.reshape(2, 3),), (a.reshape(3, 2),), (a.astype(np.float32),),
        (a[:0],), (a[:0].astype(np.int64),), (a.tolist(),), (host(),), (float("nan"),),
    ]
    names = [cache.key(*p) for p in parts]
    assert len(set(names)) == len(names) and None not in names
    assert cache.key(a[::2]) == cache.key(a[::2].copy())  # values, not layouts
    assert cache.key({"a": 1, "b": 2}) == cache.key({"b": 2, "a": 1})
    for strange in (object(), {1, 2}, np.array([None]), {1: 2, "a": 3}, lambda: 0):
        assert cache.key(strange) is None


def test_a_hit_refuses_what_the_passes_refuse():
    ncc.compile(ncc.parse(NET))
    with pytest.raises(ncc.NccError, match="overflows f32"):
        ncc.compile(ncc.parse(NET.replace("0.5", "1e300")))


def test_compile_without_the_cache(passes, folder):
    fn = ncc.compile(ncc.parse(NET), cache=False)
    assert not folder.exists() and "object" in passes
    again = fn.__reduce__()
    assert again[0](*again[1])(X).shape == (70, 1) and not folder.exists()


# ---- damage


def test_what_is_stored_is_found():
    assert cache.lookup("a" * 64) is None
    entry = Entry(b"\x00code\n\xff", {"exports": ["f"], "sizes": {"work": 3, "packed": None}})
    cache.store("a" * 64, entry)
    assert cache.lookup("a" * 64) == entry
    assert cache.lookup("b" * 64) is None
    cache.store("a" * 64, Entry(b"", {}))
    assert cache.lookup("a" * 64) == Entry(b"", {})


def test_a_damaged_entry_is_no_entry(folder):
    cache.store("a" * 64, Entry(b"code" * 10, {"sizes": {"work": 12}}))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for k in range(len(whole)):
        path.write_bytes(whole[:k])
        assert cache.lookup("a" * 64) is None, k
        for wrong in (whole[k] ^ 1, whole[k] ^ 128, 0, ord("-"), ord("9")):
            if wrong != whole[k]:
                path.write_bytes(whole[:k] + bytes([wrong]) + whole[k + 1 :])
                found = cache.lookup("a" * 64)
                # A blank of another kind in the head says the same.
                assert found is None or found == Entry(b"code" * 10, {"sizes": {"work": 12}}), k
                assert found is None or whole[k : k + 1].isspace()
    for text in (whole + b"x", b"", b"\n", b"\xff" * 300, b"ncc-cache-1 0 99999999999999999999 1\n",
                 b"ncc-cache-1 0 -1 1\n", b"ncc-cache-1 x y z\n"):
        path.write_bytes(text)
        assert cache.lookup("a" * 64) is None, text
    path.write_bytes(whole)
    assert cache.lookup("a" * 64) is not None
    path.rename(folder / ("b" * 64 + ".entry"))  # another key's
    assert cache.lookup("b" * 64) is None


def test_a_damaged_entry_is_made_again(passes, folder):
    net = ncc.parse(NET)
    ncc.compile(net)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    passes.clear()
    assert np.array_equal(ncc.compile(net)(X), net.graph.run(X, net.params))
    assert "object" in passes and path.read_bytes() == whole


# ---- the folder


def test_only_ours_to_read_and_write(folder):
    cache.store("a" * 64, Entry(b"code", {}))
    assert folder.stat().st_mode & 0o777 == 0o700
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o720])
def test_a_folder_that_others_may_write_to_is_not_used(folder, mode):
    cache.store("a" * 64, Entry(b"code", {}))
    folder.chmod(mode)
    assert cache.lookup("a" * 64) is None
    cache.store("b" * 64, Entry(b"code", {}))
    assert len(named(folder)) == 1
    folder.chmod(0o755)
    assert cache.lookup("a" * 64) is not None
    (folder / named(folder)[0]).chmod(0o666)
    assert cache.lookup("a" * 64) is None


def test_what_belongs_to_somebody_else_is_not_used(folder, monkeypatch):
    cache.store("a" * 64, Entry(b"code", {}))
    me = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: me + 1)
        assert cache.lookup("a" * 64) is None
        cache.store("b" * 64, Entry(b"code", {}))
        assert len(named(folder)) == 1
    assert cache.lookup("a" * 64) is not None
    (path,) = folder.iterdir()
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")
    assert cache.lookup("a" * 64) is None


def test_a_folder_that_cannot_be_made_is_no_cache(monkeypatch, tmp_path, passes):
    (tmp_path / "file").write_text("")
    net = ncc.parse(NET)
    for place in (tmp_path / "file" / "kept", tmp_path / "file", Path("/dev/null"),
                  Path("\udcff" * 300)):
        monkeypatch.setenv("NCC_CACHE_DIR", str(place))
        assert cache.contents() == (0, 0)
        for _ in range(2):
            passes.clear()
            ncc.compile(net)
            assert "object" in passes


def test_a_full_disk_is_no_cache(monkeypatch, folder):
    def full(*_):
        raise OSError(28, "No space left on device")

    cache.store("a" * 64, Entry(b"code", {}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        cache.store("b" * 64, Entry(b"code", {}))
    assert named(folder) == ["a" * 64 + ".entry"]  # and nothing half done is left


def test_what_cannot_be_marked_as_used_is_found(monkeypatch):
    """On a disk that is only read, or where another process removed it just now."""
    def never(*_):
        raise OSError(30, "Read-only file system")

    cache.store("a" * 64, Entry(b"code", {}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", never)
        assert cache.lookup("a" * 64) == Entry(b"code", {})


def test_where_the_folder_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.folder() == tmp_path / "kept"
    monkeypatch.setenv("NCC_CACHE_DIR", "")
    assert cache.folder() == tmp_path / "x/ncc"
    for none in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        assert cache.folder() == tmp_path / ".cache/ncc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == tmp_path / ".cache/ncc"


def test_a_user_without_a_home_has_no_cache(monkeypatch, passes, capsys):
    monkeypatch.setenv("NCC_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nothing says it
    ncc.compile(ncc.parse(NET))
    assert named(Path()) == ["net.nal"]
    assert main(["cache"]) == main(["cache", "--clear"]) == 0
    said = capsys.readouterr()
    assert "folder (none)\nentries 0" in said.out and "no home" in said.err


# ---- the size


@pytest.mark.parametrize("text, size", [
    ("", 512 << 20), (" ", 512 << 20), ("1000", 1000), ("64k", 65536), ("64K", 65536),
    ("2MB", 2 << 20), (" 3G ", 3 << 30), ("0", 0), ("9" * 30 + "G", int("9" * 30) << 30),
    ("00", 0), ("0k", 0),
])
def test_sizes(monkeypatch, text, size):
    monkeypatch.setenv("NCC_CACHE_SIZE", text)
    assert cache.limit() == size


@pytest.mark.parametrize("text", ["banana", "2 MB", "-1", "1.5M", "M", "9" * 5000, "1kk",
                                  "\u0663M", "b", "0x10", "1e6", "inf"])
def test_what_is_no_size_is_an_error_where_the_cache_is_asked(monkeypatch, folder, capsys, text):
    monkeypatch.setenv("NCC_CACHE_SIZE", text)
    for ask in (cache.limit, lambda: ncc.compile(ncc.parse(NET)), lambda: cache.lookup("a" * 64)):
        with pytest.raises(ncc.NccError, match="NCC_CACHE_SIZE=") as caught:
            ask()
        assert (caught.value.code, caught.value.status) == ("E605", 2)
    for words in (["cache"], ["build", "net.nal"]):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("error[E605]: NCC_CACHE_SIZE=")
    assert not folder.exists()
    ncc.compile(ncc.parse(NET), cache=False)
    assert main(["build", "net.nal", "--no-cache", "-o", "net.o"]) == 0


def test_what_was_used_longest_ago_goes(monkeypatch, folder):
    monkeypatch.setenv("NCC_CACHE_SIZE", "10000")
    for k in range(3):
        cache.store(f"{k}" * 64, Entry(b"x" * 3000, {}))
        os.utime(folder / (f"{k}" * 64 + ".entry"), (k + 1, k + 1))
    assert cache.lookup("0" * 64) is not None  # now the one used last
    cache.store("3" * 64, Entry(b"x" * 3000, {}))
    assert [n[0] for n in named(folder)] == ["0", "2", "3"]
    cache.store("4" * 64, Entry(b"x" * 6000, {}))
    assert [n[0] for n in named(folder)] == ["3", "4"]
    assert cache.contents()[1] <= 10000
    cache.store("5" * 64, Entry(b"x" * 10000, {}))  # larger than all together may be
    assert [n[0] for n in named(folder)] == ["3", "4"]


def test_a_folder_in_the_place_of_an_entry_is_none(monkeypatch, folder):
    """Or what is older than it would stay for ever, and --clear fail."""
    monkeypatch.setenv("NCC_CACHE_SIZE", "5000")
    cache.store("a" * 64, Entry(b"x" * 3000, {}))
    strange = folder / ("b" * 64 + ".entry")
    strange.mkdir()
    os.utime(strange, (1, 1))
    cache.store("b" * 64, Entry(b"code", {}))
    assert cache.lookup("b" * 64) is None
    cache.store("c" * 64, Entry(b"x" * 3000, {}))
    assert [n[0] for n in named(folder)] == ["b", "c"] and cache.contents()[0] == 1
    cache.clear()
    assert named(folder) == [strange.name]


def test_size_0_is_no_cache(monkeypatch, folder, passes):
    cache.store("a" * 64, Entry(b"code", {}))
    monkeypatch.setenv("NCC_CACHE_SIZE", "0")
    assert cache.lookup("a" * 64) is None
    ncc.compile(ncc.parse(NET))
    ncc.compile(ncc.parse(NET))
    assert passes.count("object") == 2 and len(named(folder)) == 1


def test_unfinished_files_of_the_dead_go(folder):
    cache.store("a" * 64, Entry(b"code", {}))
    old, new = folder / "1-2.new", folder / "3-4.new"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.store("b" * 64, Entry(b"code", {}))
    assert not old.exists() and new.exists()


# ---- many at once


WRITERS = """
import sys, time
from ncc.machine.cache import Entry, lookup, store
first = float(sys.argv[1])
while time.time() < first:
    pass
for k in range(150):
    for name in ("a", "b", "c"):
        entry = Entry(name.encode() * (20000 + k % 7), {"name": name})
        found = lookup(name * 64)
        assert found is None or found.code.strip(name.encode()) == b"", "torn"
        assert found is None or found.facts == {"name": name}
        store(name * 64, entry)
print("done")
"""


@pytest.mark.parametrize("size", ["10M", "45000"])
@pytest.mark.slow
def test_many_processes_write_at_once(folder, monkeypatch, size):
    monkeypatch.setenv("NCC_CACHE_SIZE", size)
    start = str(time.time() + 1)
    writers = [subprocess.Popen([sys.executable, "-c", WRITERS, start], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    assert [w.communicate(timeout=120)[0] for w in writers] == ["done\n"] * 3
    assert all(name.endswith(".entry") for name in named(folder))
    entries, total = cache.contents()
    assert total <= cache.limit() and entries == (3 if size == "10M" else 2)


KILLED = """
import sys
from ncc.machine.cache import Entry, store
print("ready", flush=True)
while True:
    store("a" * 64, Entry(b"x" * 3_000_000, {}))
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_nothing_that_is_found_half_done(folder):
    """Killed at moments of its store that nobody chose; what it left is removed by --clear."""
    for k in range(6):
        writer = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        time.sleep(0.004 * k)
        writer.kill()
        writer.communicate()
        found = cache.lookup("a" * 64)
        assert found is None or found.code == b"x" * 3_000_000
    cache.store("b" * 64, Entry(b"code", {}))
    assert cache.lookup("b" * 64) is not None
    cache.clear()
    assert named(folder) == []


# ---- the command


def test_the_command_uses_it(passes, folder, capsys):
    Path("x.csv").write_text("1,2\n-1,0.5\n")
    texts = []
    for words in (["build", "net.nal"], ["run", "net.nal", "--input", "x.csv"]):
        for extra, hit in (([], False), ([], True), (["--no-cache"], False)):
            passes.clear()
            assert main([*words, *extra]) == 0
            assert ("object" in passes) != hit and ("Module" in passes) != hit
            texts.append([capsys.readouterr().out, Path("net.o").read_bytes(),
                          Path("net.h").read_text()])
    assert texts[0] == texts[1] == texts[2] and texts[3] == texts[4] == texts[5]
    assert cache.contents()[0] == 3  # build's object and header, run's object


def test_the_kept_header_has_the_hash_of_the_net(passes, capsys):
    headers = []
    for text in (NET, NET.replace("0.5", "0.75")):
        for extra in ([], ["--no-cache"]):
            Path("net.nal").write_text(text)
            assert main(["build", "net.nal", *extra]) == 0
            headers.append(Path("net.h").read_text())
    assert headers[0] == headers[1] != headers[2] == headers[3]
    assert build.HASH not in headers[0]
    assert passes.count("object") == 3


@pytest.mark.parametrize("words", [
    pytest.param(words, marks=[pytest.mark.slow] * (len(words) == 1)) for words in (
        ["--check"], ["--verify-each"], ["--time-passes"], ["--stats"], ["--print-after", "cse"],
        ["--print-before", "all"], ["--passes", "group,place,lower,expand,to_llvm"])
])
def test_nothing_that_is_watched_comes_from_it(passes, folder, words, capsys):
    assert main(["build", "net.nal", *words]) == 0
    assert not folder.exists()
    assert main(["build", "net.nal"]) == 0
    passes.clear()
    assert main(["build", "net.nal", *words]) == 0
    assert "object" in passes


def test_the_cache_command(folder, capsys):
    def say(*words):
        assert main(["cache", *words]) == 0
        return capsys.readouterr().out

    empty = f"folder {folder}\nentries 0\nbytes 0\nlimit {512 << 20}\n"
    assert say() == empty
    assert say("--clear") == ""
    main(["build", "net.nal"])
    (folder / "1-2.new").write_bytes(b"half")
    (folder / "mine.txt").write_text("not the cache's")
    size = sum(p.stat().st_size for p in folder.glob("*.entry"))
    assert say() == f"folder {folder}\nentries 2\nbytes {size}\nlimit {512 << 20}\n"
    assert say("--clear") == ""
    assert say() == empty
    assert named(folder) == ["mine.txt"]


def test_the_cache_command_says_why_it_is_not_used(folder, capsys, monkeypatch):
    def note():
        assert main(["cache"]) == 0
        return capsys.readouterr().err

    assert note() == ""
    main(["build", "net.nal"])
    capsys.readouterr()
    assert note() == ""
    folder.chmod(0o770)
    assert "chmod 700" in note()
    folder.chmod(0o700)
    assert note() == ""
    monkeypatch.setenv("NCC_CACHE_SIZE", "0")
    assert "NCC_CACHE_SIZE" in note()
