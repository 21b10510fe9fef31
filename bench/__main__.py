"""Ratios, measured side by side in one run: `make bench`, or `python -m bench NAME ...`.

Absolute times mean little on a shared machine; what counts is a ratio to something known, taken in
the same minute.
"""

import sys

from bench import durable_import, one_lead

BENCHMARKS = {"import": durable_import.run, "one-lead": one_lead.run}


def main(names: list[str]) -> None:
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            raise SystemExit(f"no benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
