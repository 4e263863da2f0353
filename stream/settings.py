"""The worker's settings: one frozen record, read once from the environment (prefix CLICKPATH_)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from clickpath.errors import ConfigError
from clickpath.window import Window
from stream.connection import Connection, SaslMechanism, SecurityProtocol
from stream.topics import Topics

PREFIX: Final = "CLICKPATH_"

#: `host` or `host:port`; an IPv6 address stands in brackets.
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/;\[\]]+)(:(?P<port>[0-9]{1,5}))?")


def _addresses(text: str) -> str:
    for part in text.split(","):
        found = _ADDRESS.fullmatch(part.strip())
        if found is None or not 0 < int(found["port"] or 9092) < 1 << 16:
            raise ValueError(f"{part.strip()!r} is no host:port")
    return text


def _web_address(text: str) -> str:
    if text and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise ValueError("it is no address such as http://collector:4318")
    return text


#: The names that a broker takes for a topic.
_TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class Settings(BaseModel):
    """Settings of one worker; every field is the variable CLICKPATH_<NAME IN CAPITALS>."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    bootstrap_servers: Annotated[str, AfterValidator(_addresses)] = Field(
        "127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated."
    )
    security_protocol: SecurityProtocol = Field(
        "PLAINTEXT",
        description="`SSL` encrypts; `SASL_PLAINTEXT` and `SASL_SSL` ask for a user as well.",
    )
    sasl_mechanism: SaslMechanism = Field(
        "SCRAM-SHA-512", description="How the password is proven, with SASL."
    )
    sasl_username: str = Field("", description="The user, with SASL.")
    sasl_password_file: str = Field("", description="File that holds the user's password.")
    ssl_ca_file: str = Field(
        "", description="Certificates (PEM) that sign those of the brokers; empty: the system's."
    )
    ssl_cert_file: str = Field(
        "", description="Our certificate (PEM), where brokers ask clients for one."
    )
    ssl_key_file: str = Field("", description="Its key (PEM), without a passphrase.")
    app_id: str = Field(
        "clickpath",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Consumer group; also the prefix of the changelog topic.",
    )
    clicks_topic: _TopicName = Field("clicks", description="Topic of click events.")
    decisions_topic: _TopicName = Field("decisions", description="Topic of decisions.")
    interventions_topic: _TopicName = Field(
        "interventions", description="Prefix of the topics of interventions."
    )
    dead_letter_topic: _TopicName = Field(
        "clicks.dead-letter", description="Topic of records that are no event."
    )
    late_topic: _TopicName = Field(
        "clicks.late", description="Topic of events behind the lateness bound."
    )
    models_topic: _TopicName = Field(
        "models", description="Topic that says which model decides, compacted."
    )
    erasures_topic: _TopicName = Field(
        "erasures", description="Topic of the receipts of erased users, compacted."
    )
    pseudonym_key_file: str = Field(
        "",
        description="File with the secret that makes pseudonyms of user ids, at least 16 bytes; "
        "empty to leave user ids as they come.",
    )
    policy: str = Field("", description="Policy file; empty for the one that is shipped.")
    model: str = Field(
        "shipped",
        description="Model directory; `shipped`, or `none` to decide by the fallback policy.",
    )
    incremental: bool = Field(
        False,
        description="Keep what the model makes of a user's path, so that a click more costs one "
        "step's work; for the model in the process.",
    )
    cache_mb: Annotated[int, Field(ge=1, le=1_048_576)] = Field(
        256, description="Memory for what is kept of users' paths, in MiB; see incremental."
    )
    triton_url: str = Field(
        "",
        pattern=r"^\S*$",
        description="Triton's gRPC, host:port, that scores in place of the embedded model; a name "
        "with several addresses stands for as many servers. Empty for the embedded model.",
    )
    triton_model: str = Field(
        "clickpath",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Name of the model in Triton's repository.",
    )
    triton_version: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Version of the model in Triton, for good, or with a model repository until "
        "another is promoted; 0 takes the newest at the start, with a repository the first one.",
    )
    triton_ca_file: str = Field(
        "", description="Certificates, as PEM, that may vouch for Triton; empty without TLS."
    )
    triton_cert_file: str = Field(
        "", description="Client certificate for Triton, as PEM; needs its key and the CA."
    )
    triton_key_file: str = Field("", description="Key of the client certificate for Triton.")
    triton_server_name: str = Field(
        "",
        pattern=r"^\S*$",
        description="Name that Triton's certificate is for, where it is another than the one in "
        "its URL, such as that of a headless service; empty for the one in the URL.",
    )
    triton_admin_key_file: str = Field(
        "", description="File with the key that Triton asks for before it changes what it serves."
    )
    model_repository: str = Field(
        "",
        description="Folder of model versions, with Triton the repository that it serves; a worker "
        "that has one follows the models topic, tries candidates and switches. Empty for the one "
        "model above.",
    )
    model_public_key_file: str = Field(
        "", description="Ed25519 key, PEM, that must have signed each version; empty for none."
    )
    predict_deadline_s: Annotated[float, Field(gt=0, le=60)] = Field(
        2.0, description="How long the model may take for one call, of up to 1,024 paths."
    )
    window_steps: Annotated[int, Field(ge=1, le=1000)] = Field(
        50, description="Newest steps of a path that the model may see."
    )
    lateness_s: Annotated[int, Field(ge=0)] = Field(
        600, description="How far behind the user's newest event an event may arrive."
    )
    session_gap_s: Annotated[int, Field(ge=1)] = Field(
        1800, description="The silence that ends a session."
    )
    pending_limit: Annotated[int, Field(ge=1)] = Field(
        512, description="Most steps of a user that may wait for the lateness bound."
    )
    max_future_s: Annotated[int, Field(ge=0)] = Field(
        86_400, description="How far ahead of now an event time may be."
    )
    delivery: Literal["at-least-once", "transactional"] = Field(
        "at-least-once",
        description="`transactional` commits outputs, states and offsets together; Apache Kafka.",
    )
    commit_interval_s: Annotated[float, Field(gt=0, le=60)] = Field(
        1.0, description="Time between commits of states and offsets."
    )
    session_timeout_s: Annotated[float, Field(ge=1)] = Field(
        30.0, description="Silence after which the broker gives a worker's partitions away."
    )
    instance_id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,200}$",
        description="Name of this worker among its group, for static membership: a restart within "
        "the session timeout moves no partition. Empty for none; no two workers share one.",
    )
    store: Literal["memory", "rocksdb"] = Field(
        "memory", description="Where states are kept beside their changelog."
    )
    store_dir: str = Field(
        "", description="Folder of the states on disk, with `rocksdb`; each worker has its own."
    )
    standby_replicas: Annotated[int, Field(ge=0, le=8)] = Field(
        0,
        description="How many other workers keep up with the states of a partition, so that one of "
        "them can take it over at once; their memory, or disk, holds those states too.",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="Compression of what the worker sends."
    )
    archive: str = Field(
        "",
        description="Where a worker keeps its archive of clicks and decisions, as Parquet: a "
        "folder or an address that fsspec knows; empty for none.",
    )
    archive_buckets: Annotated[int, Field(ge=1, le=1024)] = Field(
        8, description="Buckets of users in a day of the archive; fixed when it is begun."
    )
    archive_flush_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        300.0, description="Longest time that rows wait before they go into the archive."
    )
    archive_buffer_mb: Annotated[int, Field(ge=1, le=65_536)] = Field(
        64, description="Rows in memory, in MiB, at which they go into the archive before that."
    )
    # What the worker itself writes, in batches of little more than 1 MB, it has to read again.
    unpacked_mb: Annotated[int, Field(ge=4, le=65_536)] = Field(
        64,
        description="The most that a compressed batch of records may unpack into, in MiB; a larger "
        "one is a dead letter.",
    )
    web_host: str = Field("127.0.0.1", description="Where the health and metrics pages listen.")
    web_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        6066, description="Port of the health and metrics pages; 0 takes a free one."
    )
    unready_after_s: Annotated[float, Field(gt=0)] = Field(
        15.0, description="Time without a commit after which readiness fails."
    )
    stalled_after_s: Annotated[float, Field(gt=0)] = Field(
        120.0, description="How long records may wait, and none be done, until health fails."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level of what is logged."
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="`json` logs one object a line, for a log store."
    )
    otlp_endpoint: Annotated[str, AfterValidator(_web_address)] = Field(
        "",
        description="Collector of traces that speaks OTLP over HTTP, such as "
        "`http://collector:4318`; empty for no tracing.",
    )

    @property
    def connection(self) -> Connection:
        """How the brokers are reached.

        Raises:
            ConfigError: Settings of it that do not go together.
        """
        return Connection(
            self.bootstrap_servers,
            security_protocol=self.security_protocol,
            sasl_mechanism=self.sasl_mechanism,
            sasl_username=self.sasl_username,
            sasl_password_file=self.sasl_password_file,
            ssl_ca_file=self.ssl_ca_file,
            ssl_cert_file=self.ssl_cert_file,
            ssl_key_file=self.ssl_key_file,
            unpacked_bytes=self.unpacked_mb << 20,
        )

    @property
    def topics(self) -> Topics:
        """The topics' names."""
        return Topics(
            clicks=self.clicks_topic,
            decisions=self.decisions_topic,
            interventions=self.interventions_topic,
            dead_letter=self.dead_letter_topic,
            late=self.late_topic,
            changelog=f"{self.app_id}-users-changelog",
            erasures=self.erasures_topic,
            models=self.models_topic,
        )

    @property
    def window(self) -> Window:
        """The bounds of a path."""
        return Window(
            steps=self.window_steps,
            lateness_ms=self.lateness_s * 1000,
            session_gap_ms=self.session_gap_s * 1000,
            pending_limit=self.pending_limit,
        )


def load_settings(environ: Mapping[str, str], **given: object) -> Settings:
    """The settings of a program.

    Args:
        environ: The environment; only names that begin with CLICKPATH_ are looked at.
        given: Values from the command line, which win; None stands for not given.

    Raises:
        ConfigError: A variable that nobody knows, a value that cannot be, or settings that do not
            go together; names them.
    """
    values: dict[str, object] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in Settings.model_fields:
            near = get_close_matches(field, Settings.model_fields, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise ConfigError(f"{name} is no setting{hint}")
        values[field] = value
    values.update({name: value for name, value in given.items() if value is not None})
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigError(f"{name} is {first['input']!r}: {first['msg']}") from error
    # Refuses what does not go together.
    _ = settings.connection
    if (settings.store == "rocksdb") != bool(settings.store_dir):
        raise ConfigError(f"{PREFIX}STORE=rocksdb and {PREFIX}STORE_DIR go together")
    apart_s = settings.commit_interval_s
    for name, probe in (("unready_after_s", "/ready"), ("stalled_after_s", "/health")):
        if (after_s := getattr(settings, name)) <= apart_s:
            raise ConfigError(
                f"{PREFIX}{name.upper()} is {after_s:g}, but commits are {PREFIX}COMMIT_INTERVAL_S "
                f"= {apart_s:g} s apart: {probe} would fail between them"
            )
    return settings
