"""The machine that choices are made for: latencies, caches, and the cycles of pieces of code.

Forms, tiles, lane groups and schedules are chosen by these numbers; they change how fast a net
runs, never a bit of what it computes. Above each group stands where it was measured, or what
measures the choices that follow from it. The core was one with two FMA pipes and two loads a cycle
(an EPYC, Zen 4), with vectors of 512 bits and, as AVX2, of 256. What differs from target to target,
such as the vector registers, is in ncc/machine/targets.py; what LLVM takes to compile, in
ncc/machine/limits.py.
"""

from __future__ import annotations

# Latencies in cycles; every other op is taken to be 1. Measured in f32 on Zen 4, as chains of
# dependent ops beside a chain of integer products, of 3 cycles each: 4.01, 2.99, 3.00, 11.01 and
# 15.02.
LATENCY = {"fma": 4, "add": 3, "sub": 3, "mul": 3, "div": 11, "sqrt": 15}
# Sums under way at once that hide the latency of an FMA where each is a chain; what comes of it is
# measured by tests/bench/bench_forward.py.
CHAINS = 4
# Ops a cycle of unrolled code that waits for nothing; cycles that the out-of-order window reaches
# ahead of what waits in it; cycles that a call of a pure function adds, a value into a vector and
# out of it. They make schedules, which tests/bench/bench_neat.py times.
RATE, WINDOW, CALL_CYCLES = 2, 80, 6

# Bytes: of the level-2 cache, as most of today's cores have at least, and of a page, at whose end
# most prefetchers stop.
LEVEL2 = 1 << 21
PAGE = 4096
# Bytes of weights and sources from where a batch reads them once for twice as many samples, and of
# values of such a group of samples, up to where that pays. Measured on RadiX 1,024 x 120, which
# went from 20 to 24-27 % of the FMA peak.
FAR_WEIGHTS, NEAR_VALUES = 3 * LEVEL2 // 4, LEVEL2 // 2

# The cost model, passes/plan/cost.py: cycles, fitted to the times of some nets in every form;
# `pytest -s tests/passes/test_cost.py` prints predicted beside measured.
WAITS = 3.0  # operations under way at once where a sum waits for what is before it
# One sample.
STRAIGHT_EDGE = 0.75  # two loads and an FMA, all addresses in the code
LONG_EDGE = 1.0  # the same where the code comes from the level-2 cache
LONG_EDGES = 8_000  # where that begins: 12 bytes of code an edge
TABLE_EDGE = 1.2  # three loads and an FMA
TOGETHER = 8  # rows of a table whose sums run side by side
ALONE_EDGE = 1.5  # of a row by itself: its sum is a chain, which overlaps with the next row's
ROW = 3.0  # what a row of a table costs beside its edges
SEGMENT = 4.0  # the loops around a segment's rows
SHARED_EDGE = 1.5  # a vector of rows: its weights, and its share of the source
UNIT = 12.0  # the loop around tiles that are computed side by side
# A batch: for each vector of samples.
STRAIGHT_VECTOR = 0.8  # an edge: the weight is spread, the source often in a register
TABLE_VECTOR = 1.2  # an edge: the source comes from the cache
SHARED_VECTOR = 0.65  # an edge: sources and weights serve a tile of sums
ROW_VECTOR = 4.0
TILE_COLUMN = 7.0  # a column of x or y, transposed with others
COLUMN = 30.0  # ... and alone, a number at a time
OP = 0.4  # one op of an activation
# One sample on an in-order core with an FPU: cycles of an edge and of a row in each form, of an op
# of an activation, of a call. Fitted to what ncc/machine/emulator/timing.py says of a Cortex-M4F,
# on the nets of tests/bench/bench_size.py: within a fifth of most.
IN_ORDER = {"straight": (6.5, 0.0), "table": (15.0, 45.0), "shared": (7.5, 45.0)}
IN_ORDER_OP, IN_ORDER_CALL = 2.0, 50.0
SLOWER = 1.3  # times the cycles, up to which fewer bytes are worth them where nothing is asked for
# Bytes of code and tables, as objects for a Cortex-M4F have them.
STRAIGHT_BYTES = 20.0  # of an edge, or of a row beside its edges
LOOPED_BYTES = 7.0  # the same in tables
LOOPS_BYTES = 500.0
KIND_BYTES = 100.0
TILE_BYTES, SOURCE_BYTES = 130.0, 1.0  # of a kind of tiles; what a row need not list of its own

# Edges to a value of the forward pass from where keeping it, a write and a read, takes less time
# than to compute it again, in torch's modules and `vjp`, which tests/bench/bench_fast.py times.
EDGES_TO_KEEP = 24
# Edges that take as long as a value that crosses a cut of batch compaction: it is stored, looked
# at, copied and read again; examples/graph_challenge.py times what comes of it.
EDGES_TO_CROSS = 16
# Products of a weight and a sample, for each of the threads: with fewer, a second thread makes a
# batch less than 1.8 times as fast, which tests/bench/bench_fast.py times.
PRODUCTS_A_THREAD = 16_000_000
