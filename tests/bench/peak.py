"""The FMA peak of one core, as every benchmark here calibrates it: python tests/bench/peak.py"""

from __future__ import annotations

from ncc.bench.peak import calibrate


def main() -> None:
    for dtype in ("f32", "f64"):
        peak = calibrate(dtype=dtype)
        wide = "none" if peak.wide is None else f"{peak.wide:.1f}"
        print(f"{dtype}, GFMA/s a core: narrow {peak.narrow:.1f}, 512 bits {wide}, "
              f"best {peak.best:.1f}")


if __name__ == "__main__":
    main()
