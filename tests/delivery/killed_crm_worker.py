"""A worker that reads a CRM and kills its own process once the log has the events, as kill -9 does. Arguments: URL of the
database, address of the CRM, file of the log.
"""

import os
import signal
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "projections")]

from crm_readings import Reading, channel
from killed_worker import AppendedFile


def main(url: str, address: str, appended: str) -> None:
    append = AppendedFile(appended)

    async def append_and_die(records):
        await append(records)
        os.kill(os.getpid(), signal.SIGKILL)

    Reading(url, channel("hubspot", address), {"ada@example.com": "ada"}, append_and_die).pull()


if __name__ == "__main__":
    main(*sys.argv[1:])
