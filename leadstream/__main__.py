"""`leadstream`, and `python -m leadstream`: signals first, since what comes then takes long to load."""

import gc
import sys

from leadstream.signals import COMMANDS_UNTIL_STOPPED, exit_on_signal


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS_UNTIL_STOPPED:
        exit_on_signal()
    gc.set_threshold(50_000, 20, 50)  # what loading makes stays, so collecting it costs a tenth of the start
    from leadstream.cli.root import main as run  # noqa: PLC0415 - after the signals

    run()


if __name__ == "__main__":
    main()
