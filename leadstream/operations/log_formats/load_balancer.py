"""AWS load balancers: classic (ELB) and application (ALB).

Sources: https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html and
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html: an application load
balancer puts the kind of the request first. They record no referrer.
"""

import re

from leadstream.operations.log_formats.addresses import client_address
from leadstream.operations.log_formats.logged_request import (
    LoggedRequest,
    http_status_of,
    method_and_target,
    user_agent_of,
)
from leadstream.operations.log_formats.moments import read_iso_moment

_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_LINE = re.compile(
    r"(?:(?:https?|h2|grpcs|wss?) )?(?P<at>\d{4}-\d\d-\d\dT[0-9:.]{8,16}Z?) \S+ (?P<client>\S+) \S+ "
    r"-?[0-9.]+ -?[0-9.]+ -?[0-9.]+ (?P<status>\d{3}|-) (?:\d{3}|-) (?:\d+|-) (?:\d+|-) "
    rf"{_QUOTED}(?: {_QUOTED})?"
)


def read_load_balancer(text: str) -> LoggedRequest | None:
    line = _LINE.match(text)
    at = read_iso_moment(line["at"]) if line else None
    if line is None or at is None:
        return None
    method, target = method_and_target(line[4])
    client, _, port = line["client"].rpartition(":")
    return LoggedRequest(
        at=at,
        address=client_address(client if port.isdigit() else line["client"]),
        method=method,
        target=target,
        status=http_status_of(line["status"]),
        agent=user_agent_of(line[5]),
    )
