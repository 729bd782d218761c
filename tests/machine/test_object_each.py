"""`ncc build --each`: net_each and net_each_backward from C, each buffer against a fence."""

from __future__ import annotations

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import AGGREGATES, FENCES, FUNCTIONS, build, compile_with, elf, run, same

import ncc
from ncc.cli import main
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host

BATCHES = (0, 1, 7, 16, 33, 100)
ROWS = max(BATCHES)
WIDE = random_layers([19, 24, 18], 7, seed=2, weights=True, activation="tanh")

# argv: place (end, start, heap), bytes that all arrays are off their alignment. Writes, for each
# batch, y, and dx and dparams for each choice of the two that are not NULL.
DRIVER = FENCES + r"""
static size_t off;

static REAL *array(const char *path, size_t size)
{
    REAL *p = (REAL *)buffer(size, 1, off);
    get(p, size, path);
    seal(p, size);
    return p;
}

static void put(const void *p, size_t size)
{
    if (p && size)
        fwrite(p, 1, size, stdout);
}

int main(int count, char **arguments)
{
    static const size_t batches[] = {BATCHES};
    const size_t in = sizeof(REAL) * NET_INPUTS, out = sizeof(REAL) * NET_OUTPUTS;
    const size_t all = sizeof(REAL) * NET_PARAMS;
    size_t j, some;
    void *work, *more;
    if (count != 3)
        return 7;
    place = arguments[1][0];
    off = (size_t)atoi(arguments[2]);
    work = buffer(NET_EACH_WORK_BYTES, NET_ALIGN, 0);
    more = buffer(NET_EACH_BACKWARD_WORK_BYTES, NET_ALIGN, 0);
    for (j = 0; j < sizeof batches / sizeof *batches; j++) {
        const size_t n = batches[j];
        const REAL *x = array("x.bin", in * n), *params = array("params.bin", all * n);
        const REAL *dy = array("dy.bin", out * n);
        REAL *y = (REAL *)buffer(out * n, 1, off);
        net_each(n, x, params, y, work);
        put(y, out * n);
        for (some = 0; some < 4; some++) {
            REAL *dx = some & 1 ? (REAL *)buffer(in * n, 1, off) : NULL;
            REAL *dparams = some & 2 ? (REAL *)buffer(all * n, 1, off) : NULL;
            net_each_backward(n, x, params, dy, dx, dparams, more);
            put(dx, in * n);
            put(dparams, all * n);
        }
    }
    return 0;
}
"""


@pytest.mark.skipif(not (host().triple.startswith("x86_64") and host().fma),
                    reason="needs an x86-64-v3 machine")
@pytest.mark.each_choice
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("cpu", ["x86-64-v3", "native"])
@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("language", ["c", "cpp"])
@pytest.mark.parametrize("text", [to_nal(some_net(4, max_neurons=20)), AGGREGATES, WIDE],
                         ids=["random", "aggregates", "wide"])
def test_from_c(tmp_path, dtype, cpu, form, language, text):
    data, header = build(tmp_path, text, "--each", "--cpu", cpu, "--dtype", dtype, "--batch-form",
                         form, "--backward-form", form.replace("shared", "table"))
    undefined, defined, writable = elf(data)
    assert not undefined and not writable
    assert defined == FUNCTIONS | {"net_each", "net_each_backward"}
    net, real = ncc.parse(text), DTYPES[dtype]
    rng = np.random.default_rng(3)
    widths = {"x": len(net.inputs), "params": net.n_params, "dy": len(net.outputs)}
    arrays = {name: rng.standard_normal((ROWS, width)).astype(real)
              for name, width in widths.items()}
    for name, array in arrays.items():
        array.tofile(tmp_path / f"{name}.bin")
    fn = ncc.compile(net, dtype=dtype, opt=0)
    with np.errstate(all="ignore"):
        y, pullback = fn.each_vjp(arrays["x"], arrays["params"])
        dx, dparams = pullback(arrays["dy"])
    wanted = [part[:n] for n in BATCHES for part in (y, dx, dparams, dx, dparams)]
    compile_with(tmp_path, DRIVER, ["net.o"], language,
                 f"-DREAL={'float' if dtype == 'f32' else 'double'}",
                 f"-DBATCHES={','.join(map(str, BATCHES))}")
    for place, off in (("end", 0), ("start", 3), ("heap", 1)):
        found = np.frombuffer(run(tmp_path, place, off), real)
        at = 0
        for part in wanted:
            same(found[at : at + part.size], part.reshape(-1))
            at += part.size
        assert at == len(found)


def test_only_where_it_is_asked_for(tmp_path, capsys):
    data, header = build(tmp_path, AGGREGATES)
    assert elf(data)[1] == FUNCTIONS and "EACH" not in header
    data, header = build(tmp_path, AGGREGATES, "--each", "--no-backward")
    assert elf(data)[1] == {"net_pack", "net_forward", "net_forward_batch", "net_each"}
    assert "NET_EACH_WORK_BYTES" in header and "EACH_BACKWARD" not in header
    capsys.readouterr()
    status = main(["build", str(tmp_path / "net.nal"), "--each", "--embed-weights"])
    assert status == 2 and "E609" in capsys.readouterr().err
