"""Files broken at random, and what may become of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ncc


def mutants(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Copies of a file, each cut short, with bytes, words or lines changed, lost or twice."""
    rng = random.Random(seed)
    strange = [b"nan", b"-1", b"1e999", b"99999999999", b"-", b"0", b"\xff", b"{", b"[" * 2000,
               b"(", b"\n", b" ", b",", b"2147483648", b"1000000000", b"\x00", b"'", b"#", b"=",
               b"\t", b"-0.0", b"1e-400", b":", b"9" * 5000]
    for _ in range(count):
        made = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            a = rng.randrange(len(made) + 1)
            b = min(len(made), a + rng.choice((0, 1, 1, 3, 10, 60)))
            match rng.randrange(5):
                case 0:
                    del made[a:b]
                case 1:
                    made[a:b] = rng.choice(strange)
                case 2:
                    made[a:a] = made[a:b] * rng.choice((1, 2, 50))
                case 3 if made:
                    made[a % len(made)] = rng.randrange(256)
                case 4 if rng.random() < 0.3:
                    del made[a:]
        yield bytes(made)


def survives(path: Path, data: bytes, **options: Any) -> str | None:
    """The code by which a file is refused, None where it is read, into a net that is one. No other
    end is one, nor is one beyond two seconds."""
    path.write_bytes(data)
    begin = time.process_time()
    try:
        ncc.load(path, **options).graph.verify()
    except ncc.NccError as error:
        assert error.code[:2] in ("E8", "E6"), (error, data[:3000])
        return error.code
    finally:
        assert time.process_time() - begin < 2, data[:3000]
    return None
