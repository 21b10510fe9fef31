"""The records of one partition that are still to be folded: bounded, in order, no gap, none twice.

The queue, not the consumer of its host, decides which record comes next: repeats are dropped, and a gap is
refused, so that the host seeks back. It opens at the position that the shard's state contains.
"""

from collections import deque
from itertools import islice

from schemas.record import Chunk, Record

MOST_QUEUED_RECORDS = 10_000
MOST_QUEUED_BYTES = 4 * 1024 * 1024
"""About: the chunk that passes a bound is kept whole."""
RECORD_OVERHEAD_BYTES = 250
"""What a record takes beside its key and value, about."""


class RecordQueue:
    def __init__(self, position: int) -> None:
        self.end = position
        """Everything before it was offered."""
        self._records: deque[Record] = deque()
        self._sizes: deque[tuple[int, int]] = deque()
        """Of each chunk of which something waits: (where it ends, its bytes)."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def position(self) -> int:
        """Of the next record to fold; everything before it is folded, or contains no record."""
        return self._records[0].position if self._records else self.end

    @property
    def full(self) -> bool:
        return len(self._records) >= MOST_QUEUED_RECORDS or self._bytes >= MOST_QUEUED_BYTES

    def offer(self, chunk: Chunk) -> bool:
        """False: records are missing between `end` and this chunk, and it was not queued."""
        if chunk.start > self.end:
            return False
        if chunk.next > self.end:
            new = chunk.records
            if chunk.start < self.end:
                new = [record for record in new if record.position >= self.end]
            if new:
                size = sum(
                    [len(record.value or b"") + len(record.key) + RECORD_OVERHEAD_BYTES for record in new]
                )
                self._records.extend(new)
                self._sizes.append((chunk.next, size))
                self._bytes += size
            self.end = chunk.next
        return True

    def first(self, most: int) -> list[Record]:
        """The next records; they stay until `drop`."""
        return list(islice(self._records, most))

    def drop(self, count: int) -> None:
        """The first `count` records are folded."""
        take = self._records.popleft
        for _ in range(count):
            take()
        while self._sizes and self._sizes[0][0] <= self.position:
            self._bytes -= self._sizes.popleft()[1]
