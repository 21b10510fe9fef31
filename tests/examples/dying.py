"""Runs the subscriber in Python, which dies (kill -9) at the commit whose number DIE_AT says, before it is done."""

import itertools
import os
import runpy
import signal
import sqlite3
import sys

connect = sqlite3.connect
numbers = itertools.count(1)


def dying(*arguments, **options):
    store = connect(*arguments, **options)

    def at_statement(text):
        if text == "commit" and next(numbers) == int(os.environ["DIE_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)

    store.set_trace_callback(at_statement)
    return store


sqlite3.connect = dying
runpy.run_path(sys.argv[1], run_name="__main__")
