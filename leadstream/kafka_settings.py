"""The settings of the connection to Kafka: a part of `leadstream.settings`."""

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

from leadstream.setting_types import Brokers, ExistingFile
from leadstream.variable_names import variable_name
from streams.kafka.cluster import Cluster, KafkaSecurity, SaslMechanism, SecurityProtocol

LOCAL_KAFKA_BROKER = "127.0.0.1:9092"


class KafkaSettings(BaseSettings):
    kafka: Brokers | None = Field(
        None,
        description="Brokers of Apache Kafka, HOST:PORT, separated by commas. If it is set, the log is in Kafka "
        "instead of PostgreSQL. Commands that always need Kafka use 127.0.0.1:9092 if it is not set.",
    )
    kafka_prefix: str = Field(
        "",
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Put before the name of every topic and group in Kafka (letters, digits, . _ -), so that "
        "several installations share a cluster.",
    )
    kafka_app: str = Field(
        "leadstream",
        max_length=60,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the workers' state in Kafka: their group, changelogs, transactions (letters, digits, "
        ". _ -). All workers of one state share it.",
    )
    kafka_security: SecurityProtocol = Field(
        "PLAINTEXT", description="Protocol of the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_mechanism: SaslMechanism = Field(
        "SCRAM-SHA-512",
        description="How SASL checks the password: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    )
    kafka_username: str | None = Field(None, description="User name at Kafka, for SASL.")
    kafka_password: SecretStr | None = Field(None, description="Password at Kafka, for SASL.")
    kafka_ca_file: ExistingFile | None = Field(
        None,
        description="For SSL: a PEM file with the certificates of the authorities that signed the brokers' "
        "certificates. Without it, this machine's trusted authorities apply.",
    )
    kafka_replication: int | None = Field(
        None,
        ge=1,
        le=32,
        description="Copies of every topic that is created, 1 to 32. Without it: 1 with one broker, else 3, or 2 of "
        "two brokers.",
    )

    @model_validator(mode="after")
    def _fits_the_protocol(self) -> Self:
        sasl = self.kafka_security.startswith("SASL")
        for name in ("kafka_username", "kafka_password"):
            is_set = getattr(self, name) is not None
            if sasl and not is_set:
                raise _conflicting_settings_error(
                    "{name} is not set, and {protocol} needs it: set it, or LEADSTREAM_KAFKA_SECURITY=SSL",
                    name,
                    self.kafka_security,
                )
            if is_set and not sasl:
                raise _conflicting_settings_error(
                    "{name} is set, and {protocol} has no use for it: set LEADSTREAM_KAFKA_SECURITY=SASL_SSL, "
                    "or unset it",
                    name,
                    self.kafka_security,
                )
        if self.kafka_ca_file is not None and not self.kafka_security.endswith("SSL"):
            raise _conflicting_settings_error(
                "{name} is set, and {protocol} has no use for it: set LEADSTREAM_KAFKA_SECURITY=SSL or SASL_SSL, "
                "or unset it",
                "kafka_ca_file",
                self.kafka_security,
            )
        return self

    @property
    def cluster(self) -> Cluster:
        """The Kafka cluster; without a setting, one on this machine."""
        password = self.kafka_password
        return Cluster(
            self.kafka or LOCAL_KAFKA_BROKER,
            self.kafka_prefix,
            self.kafka_app,
            KafkaSecurity(
                self.kafka_security,
                self.kafka_mechanism,
                self.kafka_username,
                password.get_secret_value() if password else None,
                str(self.kafka_ca_file) if self.kafka_ca_file else None,
            ),
        )


def _conflicting_settings_error(template: str, name: str, protocol: str) -> PydanticCustomError:
    """The error for two settings that do not go together; `template` is one of pydantic's."""
    return PydanticCustomError("conflict", template, {"name": variable_name(name), "protocol": protocol})
