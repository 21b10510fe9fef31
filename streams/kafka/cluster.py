"""Where Kafka is and what everything in it is called: the only place that names topics and groups.

Records carry the names of `schemas.topics`; `prefix` stands before them in Kafka, so that several
installations share a cluster. `app` names the state: another app runs beside it on a state of its own.
"""

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True)
class Security:
    """How to be let in. `ca_file` None trusts what the machine trusts."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def client(self) -> dict[str, Any]:
        """The arguments of an aiokafka client. Raises OSError or ssl.SSLError for a wrong `ca_file`."""
        asked: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            asked["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.protocol.startswith("SASL"):
            asked |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return asked


@dataclass(frozen=True)
class Cluster:
    brokers: str
    """HOST:PORT, several separated by commas."""
    prefix: str = ""
    app: str = "leadstream"
    security: Security = field(default_factory=Security)

    def client(self) -> dict[str, Any]:
        """The arguments that every aiokafka client needs."""
        return {"bootstrap_servers": self.brokers.split(","), **self.security.client()}

    def topic(self, name: str) -> str:
        """The name in Kafka of a topic of `schemas.topics`."""
        return self.prefix + name

    def name_of(self, topic: str) -> str:
        """The other way round."""
        return topic.removeprefix(self.prefix)

    def changelog(self, stage: str) -> str:
        """The name in Kafka of the topic that keeps a stage's state."""
        return f"{self.prefix}{self.app}-{stage.replace('_', '-')}-changelog"

    @property
    def skips(self) -> str:
        """The name in Kafka of the topic that says which records are to be passed over."""
        return f"{self.prefix}{self.app}-skips"

    @property
    def group(self) -> str:
        """The consumer group of the workers."""
        return f"{self.prefix}{self.app}"

    @property
    def projections_group(self) -> str:
        return f"{self.prefix}{self.app}-projections"

    @property
    def journal_group(self) -> str:
        """The group beside whose offsets processes note when they start, end and pause."""
        return f"{self.prefix}{self.app}-journal"

    def transactional_id(self, bucket: int) -> str:
        """Of the producer that writes for a bucket of partitions; who opens it shuts out the one before."""
        return f"{self.prefix}{self.app}-bucket-{bucket}"

    @property
    def publisher_id(self) -> str:
        """The transactional id of who publishes models and settings."""
        return f"{self.prefix}publisher"
