"""Processes under a supervisor: whoever ends is started again, as it would be in production.

A test kills, stops and halts them, and waits for what they say; a wait that is given up tells what it
waited for, and shows the end of every process's log.
"""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from typing import NamedTuple

from tests.forked_programs import Program

PATIENCE = 240.0
AGAIN_SECONDS = 0.2
"""Before an ended process is started again."""
MOST_EXITS = 150
TAIL = 30


class Exit(NamedTuple):
    name: str
    life: int
    """How often it had been started before."""
    code: int


class Member:
    """One process, life after life; a thread notes what it says on standard output."""

    def __init__(self, name, command, env, log):
        self.name = name
        self.log = log
        self.lives = 0
        self.words = Counter()
        """What this life has said."""
        self.kept = True
        """Whether it is started again when it ends."""
        self.process = None
        self.armed = {}
        """Environment of the next life only."""
        self._command = command
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("LEADSTREAM_", "CHAOS_"))} | env

    @property
    def code(self):
        return self.process.poll()

    def live(self):
        self.words = Counter()
        self.lives += 1
        env, self.armed = self._env | self.armed, {}
        with self.log.open("ab") as log:
            log.write(f"--- life {self.lives}\n".encode())
            log.flush()
            self.process = Program(self._command, env=env, stdout=subprocess.PIPE, stderr=log)
        threading.Thread(target=self._listen, args=(self.process.stdout, self.words), daemon=True).start()

    @staticmethod
    def _listen(stream, words):
        with stream:
            for line in stream:
                words[line.decode(errors="replace").strip()] += 1

    def send(self, number):
        self.process.send_signal(number)

    def logged(self, text):
        """Whether this life has written so into its log."""
        written = self.log.read_bytes().rpartition(b"--- life ")[2]
        return text.encode() in written

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(line[:600] for line in lines[-TAIL:])


class Crew:
    def __init__(self, directory):
        self._directory = directory
        self._members = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self.exits = []
        self._supervisor.start()

    def __getitem__(self, name):
        return self._members[name]

    def add(self, name, command, env):
        member = Member(name, command, env, self._directory / f"{name}.log")
        with self._lock:
            self._members[name] = member
            member.live()
        return member

    def kill(self, name, *, armed=None):
        """SIGKILL; the next life gets what is `armed` into its environment."""
        with self._lock:
            member = self._members[name]
            member.armed = armed or {}
            member.send(signal.SIGKILL)
            life = member.lives
        self.wait_for(lambda: member.lives > life, f"{name} is started again")

    def end(self, name, seconds=120.0):
        """SIGTERM: it has to exit with 0 in time. It is not started again."""
        member = self._members[name]
        with self._lock:
            member.kept = False
            member.send(signal.SIGTERM)
        begun = time.monotonic()
        try:
            code = member.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} has not ended within {seconds} s\n{self.report()}") from None
        assert code == 0, f"{name} ended with {code}\n{self.report()}"
        return time.monotonic() - begun

    def restart(self, name):
        """Again after `end`."""
        with self._lock:
            member = self._members[name]
            member.live()
            member.kept = True

    def wait_for(self, condition, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert len(self.exits) < MOST_EXITS, f"they end again and again\n{self.report()}"
            if time.monotonic() > end:
                raise AssertionError(f"it did not come to pass in {seconds:.0f} s: {what}\n{self.report()}")
            time.sleep(0.02)
        return found

    def report(self):
        parts = [f"exits (name, life, code): {[tuple(e) for e in self.exits]}"]
        parts += [
            f"== {member.name}, life {member.lives}, exit code {member.code}, said {dict(member.words)}\n{member.tail()}"
            for member in self._members.values()
        ]
        return "\n".join(parts)

    def close(self):
        self._over.set()
        self._supervisor.join()
        for member in self._members.values():
            if member.code is None:
                member.send(signal.SIGKILL)
            member.process.wait()

    def _supervise(self):
        while not self._over.wait(0.05):
            for member in list(self._members.values()):
                with self._lock:
                    if not member.kept or member.code is None:
                        continue
                    self.exits.append(Exit(member.name, member.lives, member.code))
                if self._over.wait(AGAIN_SECONDS):
                    return
                with self._lock:
                    member.live()
