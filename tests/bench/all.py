"""All measured tables of the guides, measured anew: python tests/bench/all.py

Each table of TABLES is what its script prints, under a line that names the machine and the day; it
replaces what stands between its markers in its guide: tests/bench/README.md, but for the errors of
exp, tanh and the others, which stand in passes/README.md. Then the rows PEERS of the table `fast`
are copied into README.md, between the markers `peers`; `--only peers` does no more than that. A
machine that does nothing else takes some ten minutes. `--quick` runs a small part of each and
prints the tables, but writes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP))

from ncc.machine.llvm import host  # noqa: E402


class Table(NamedTuple):
    """Between the markers `<!-- NAME: begin -->` and `<!-- NAME: end -->`; what `script` prints
    with `words`, or with `quick`."""

    name: str
    script: str
    words: str = ""
    quick: str = ""
    guide: str = "tests/bench/README.md"


TABLES = (
    Table("bench", "bench_forward.py", "", "--quick"),
    Table("frontend", "bench_frontend.py", "1000000", "20000"),
    Table("compile", "bench_compile.py", "--short --mixtures 20 --seed 1",
          "--short --only ^(XOR|mixture) --mixtures 1 --patience 3"),
    Table("size", "bench_size.py", "", "--quick"),
    Table("neat", "bench_neat.py", "", "--sizes 50 --seeds 1 --seconds 0.1"),
    Table("population", "bench_population.py", "",
          "--sizes 20 --rounds 1 --genomes 5"),
    Table("each", "bench_each.py", "", "--quick --seconds 0.1"),
    Table("jacobian", "bench_jacobian.py", "", "--quick"),
    Table("fast", "bench_fast.py", "", "--rows python-call,one-tagger --seconds 0.05"),
    Table("train", "bench_train.py", "", "--rows parts --seconds 0.05"),
    Table("rewire", "bench_rewire.py", "", "--quick"),
    Table("imports", "bench_imports.py", "", "--quick"),
    Table("layers", "bench_layers.py", "", "--only 10 --seconds 0.1"),
    Table("cache", "bench_cache.py", "", "--quick"),
    Table("ulps", "bench_ulps.py", "", "--stride 9973 --samples 1000", "passes/README.md"),
)

# The rows of `fast`, by how they begin, that README.md shows: a net, and what comes beside it.
PEERS = (
    "batch 256, RadiX 1,024 x 120",
    "batch 256, dense 512 x 4",
    "one sample, random 10,000 edges",
    "training step, random 1,024 x 4",
    "training step, dense 784-300-100-10",
)


def machine(day: datetime.date) -> str:
    """One line: the CPU as the system and as LLVM name it, its vectors, the day."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    here = host()
    cpu = f"{names[0]} ({here.cpu})" if names else here.cpu
    return f"{cpu}, {here.vector_bits}-bit vectors, {os.cpu_count()} cores, {day.isoformat()}"


def tables(text: str) -> str:
    """The lines of a script's output that are a Markdown table; empty where there is none."""
    return "".join([line + "\n" for line in text.splitlines() if line.startswith("|")])


def placed(guide: str, name: str, table: str) -> str:
    """The guide with the table between its markers. ValueError where they are not there."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if guide.count(begin) != 1 or guide.count(end) != 1:
        raise ValueError(f"no markers of the table {name}")
    before, rest = guide.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def section(guide: str, name: str) -> str:
    """What stands between the markers of a table: the inverse of `placed`."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    return guide.split(begin)[1].split(end)[0]


def beside_peers(fast: str) -> str:
    """The rows PEERS of the table `fast`: a net, what ncc reaches, how many times a peer's speed.

    The ratio stands in a row of its own (`the same against ...`, after that of the net) or in the
    same cell (`0.64x torch by hand, 46 % P`). A net that was not measured has no row.
    """
    lines = fast.splitlines()
    cells = [[c.strip() for c in line.split("|")[1:3]] for line in lines if line.startswith("|")]
    head = [line + "\n" for line in lines if line.startswith("`")]
    rows = ["| net | ncc | speed, peer = 1 |\n", "| --- | --- | --- |\n"]
    for begin in PEERS:
        for k, (what, value) in enumerate(cells):
            if not what.startswith(begin):
                continue
            following, ratio = (cells + [["", ""]])[k + 1]
            if following.startswith("the same against "):
                ratio = ratio.split(" (")[0]
                if " " not in ratio:  # only `1.06x`: the peer's name is the label's
                    ratio += " " + following.removeprefix("the same against ")
            else:
                parts = value.split(", ")
                ratio = ", ".join([part for part in parts if re.match(r"[\d.]+x ", part)])
                value = ", ".join([part for part in parts if part != ratio])
            rows.append(f"| {what} | {value} | {ratio} |\n")
    return "".join([*head, *["\n" for _ in head], *rows])


def measured(table: Table, quick: bool) -> tuple[str, int]:
    """The table, headed by the machine, and its script's status: 1 where targets are missed."""
    words = (table.quick if quick else table.words).split()
    path = os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, str(HERE / table.script), *words], text=True,
                          stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    found = tables(done.stdout)
    command = " ".join(["python tests/bench/" + table.script, *words])
    return found and f"`{command}`, {machine(datetime.date.today())}\n\n{found}", done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="LIST",
                        help=",".join([t.name for t in TABLES]) + ", or peers")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--guide", type=Path, help="instead of the tables' own")
    arguments = parser.parse_args()
    names = [*[t.name for t in TABLES], "peers"]
    chosen = arguments.only.split(",") if arguments.only else names
    for name in chosen:
        if name not in names:
            parser.error(f"no table {name}: one of {', '.join(names)}")
    guides = {t.name: arguments.guide or TOP / t.guide for t in TABLES}
    guides["peers"] = arguments.guide or TOP / "README.md"
    for name in chosen:  # now, not after all measurements
        placed(guides[name].read_text(), name, "")
    failed = []
    for table in TABLES:
        if table.name not in chosen:
            continue
        print(f"{table.script} ...", file=sys.stderr, flush=True)
        found, status = measured(table, arguments.quick)
        if status:
            failed.append(f"{table.script}: status {status}")
        if found and not arguments.quick:
            # Read afresh: somebody may have written in it meanwhile.
            guide = guides[table.name]
            guide.write_text(placed(guide.read_text(), table.name, found))
        elif found:
            print(f"{found}")
    copied = "peers" in chosen or ("fast" in chosen and not arguments.guide)
    if copied and not arguments.quick:
        rows = beside_peers(section(guides["fast"].read_text(), "fast"))
        guides["peers"].write_text(placed(guides["peers"].read_text(), "peers", rows))
    if failed:
        print("\n".join(failed), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
