"""The address of Kafka, and the names of all topics, groups and transactional ids: no other module makes them.

Records carry the names of `schemas.topics`. In Kafka these get a `prefix`, so that several installations can share a
cluster. `app` names the state: another app beside it has a state of its own.
"""

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaUnavailable(RuntimeError):
    """Kafka does not answer, does not take records now, or lacks a topic. The message names the remedy; another
    attempt makes sense after `retry_after` seconds.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class KafkaSecurity:
    """How to connect. `ca_file` None: the machine's certificate authorities are trusted."""

    protocol: SecurityProtocol = "PLAINTEXT"
    mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def client(self) -> dict[str, Any]:
        """The arguments of an aiokafka client. Raises OSError or ssl.SSLError for a wrong `ca_file`."""
        arguments: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            arguments["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments


@dataclass(frozen=True)
class Cluster:
    brokers: str
    """HOST:PORT, several separated by commas."""
    prefix: str = ""
    app: str = "leadstream"
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    def client(self) -> dict[str, Any]:
        """The arguments that every aiokafka client needs."""
        return {"bootstrap_servers": self.brokers.split(","), **self.security.client()}

    def topic(self, name: str) -> str:
        """The name in Kafka of a topic of `schemas.topics`."""
        return self.prefix + name

    def name_of(self, topic: str) -> str:
        """The name in `schemas.topics` of a topic in Kafka."""
        return topic.removeprefix(self.prefix)

    def changelog(self, stage: str) -> str:
        """The name in Kafka of the topic that keeps a stage's state."""
        return f"{self.prefix}{self.app}-{stage.replace('_', '-')}-changelog"

    @property
    def skips(self) -> str:
        """The name in Kafka of the topic that lists the records to skip."""
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
        """The group whose offsets carry the journal (`streams.kafka.journal`)."""
        return f"{self.prefix}{self.app}-journal"

    def transactional_id(self, task_group: int) -> str:
        """Of the producer that writes for a task group. Opening it fences the former producer."""
        return f"{self.prefix}{self.app}-bucket-{task_group}"

    @property
    def publisher_id(self) -> str:
        """The transactional id of the producer that publishes models and settings."""
        return f"{self.prefix}publisher"
