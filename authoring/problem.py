"""Why authoring refuses. The caller decides how to report it: the gateway by HTTP, the command line in a sentence."""


class Problem(Exception):
    """A request that cannot be served as a whole.

    Callables that are handed to `Authoring` (the log's append, the shards' state) raise it, too, while
    they are unavailable.
    """

    def __init__(self, reason: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s


class NotFound(Problem):
    """There is no such model, version or draft."""


class Conflict(Problem):
    """The request does not fit the current state: someone else changed it, or it is closed."""


class Invalid(Problem):
    """The request contains a mistake."""


class NoLongerKept(Problem):
    """What the request needs was there, and was removed for good."""


class TryLater(Problem):
    """The database, the log or another author is in the way; nothing is wrong with the request."""
