"""What this installation allows and where it keeps things: `MTL_*` environment variables, read once.

There are two profiles. `local` is for a person at their own machine; `public` is for a page that strangers share, and
is chosen by itself on a Hugging Face Space. A field that the environment does not set has its profile's value.
"""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mtl.choices import DEFAULT_ENCODER, Precision
from mtl.errors import ConfigError

Profile = Literal["local", "public"]
PREFIX = "MTL_"
# What the public profile sets; two processor cores, 16 GB of memory and 50 GB of disk are a small Space.
PUBLIC: dict[str, Any] = {
    "max_bytes": 10_000_000,
    "max_rows": 20_000,
    "max_columns": 50,
    "max_cell_characters": 10_000,
    "max_labels": 200,
    "max_label_characters": 100,
    "max_tasks": 8,
    "encoders": (DEFAULT_ENCODER,),
    "max_epochs": 20,
    "max_batch_size": 64,
    "max_length": 256,
    "max_learning_rate": 0.1,
    "max_row_passes": 200_000,
    "max_runs_per_visitor": 2,
    "max_runs_per_address": 6,
    "max_run_seconds": 1200,
    "max_worker_bytes": 6_000_000_000,
    "max_disk_bytes": 10_000_000_000,
    "run_ttl_seconds": 86_400,
    "max_body_bytes": 256_000,
    "upload_bytes_per_hour": 50_000_000,
    "events_per_second": 5.0,
    "events_burst": 100,
    "max_sessions": 1_000,
    "log_json": True,
}


class Settings(BaseSettings):
    """Limits and folders; every field can be set as `MTL_<FIELD>` in the environment, and `none` lifts a limit."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_parse_none_str="none", frozen=True)

    profile: Profile = Field("local", description="local, or public: strangers share the page; on a Space by itself")
    public: bool = Field(False, description="Whether the profile is public; true chooses it as well")

    runs_dir: Path = Field(Path("checkpoints"), description="Folder of the run folders")
    cache_dir: Path = Field(Path.home() / ".cache" / "mtl", description="Folder of measurements that can be redone")
    max_cache_bytes: int = Field(2_000_000_000, ge=0, description="Most bytes of embeddings kept in the cache folder")
    precision: Precision = Field(
        "auto", description="How checkpoints answer: auto, the fastest that is true to float32 within a cosine of 1e-4"
    )
    log_json: bool = Field(False, description="Whether the log is a JSON object a line")

    max_bytes: int = Field(500_000_000, gt=0, description="Largest file that is read, in bytes")
    max_rows: int = Field(1_000_000, gt=0, description="Most data rows in one table")
    max_columns: int = Field(1_000, gt=0, description="Most columns in one table")
    max_cell_characters: int = Field(1_000_000, gt=0, description="Longest cell, in characters")
    max_labels: int = Field(1_000, gt=1, description="Most classes of one task")
    max_label_characters: int = Field(200, gt=0, description="Longest class name, in characters")
    max_tasks: int = Field(32, gt=0, description="Most heads of one model")
    max_texts: int = Field(1_000, gt=0, description="Most texts typed into one tab or sent in one API call")
    max_text_characters: int = Field(10_000, gt=0, description="Longest text typed or sent, in characters")

    encoders: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description="Encoders that runs may use, separated by commas, a Hub id as name@revision"
    )
    max_epochs: int | None = Field(None, gt=0, description="Most epochs of one run; a file of few rows may take more")
    max_batch_size: int | None = Field(None, gt=0, description="Largest batch")
    max_length: int | None = Field(None, ge=8, description="Longest encoder.max_length, in tokens")
    max_learning_rate: float | None = Field(None, gt=0, description="Highest learning rate")
    max_row_passes: int | None = Field(None, gt=0, description="Most rows x epochs x heads of one run")

    training_slots: int = Field(1, gt=0, description="Runs that train at the same time")
    standby: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether a process waits for the next run with its libraries loaded; auto: if memory allows"
    )
    max_queued_runs: int = Field(20, gt=0, description="Most runs waiting for their turn")
    max_runs_per_visitor: int | None = Field(None, gt=0, description="Most runs of one visitor that wait or train")
    max_runs_per_address: int | None = Field(
        None, gt=0, description="Most runs begun from one address that wait or train"
    )
    max_run_seconds: int | None = Field(None, gt=0, description="Longest training, in seconds")
    max_worker_bytes: int | None = Field(None, gt=0, description="Most memory of a training process, in bytes")
    max_disk_bytes: int | None = Field(None, gt=0, description="Most bytes of all runs together")
    run_ttl_seconds: int | None = Field(None, gt=0, description="How long a finished run is kept, in seconds")

    max_body_bytes: int = Field(64_000_000, gt=0, description="Largest request that is no upload, in bytes")
    upload_bytes_per_hour: int | None = Field(None, gt=0, description="Most uploaded bytes of one client in an hour")
    events_per_second: float | None = Field(None, gt=0, description="Requests of one client a second, in the long run")
    events_burst: int = Field(100, gt=0, description="Requests of one client at once")
    max_sessions: int = Field(1_000, gt=0, description="Open pages whose state is kept; about 1 MB each")
    trusted_proxies: int = Field(
        0, ge=0, description="Proxies in front whose X-Forwarded-For is believed; 1 on a Space by itself"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_the_profile(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Put the profile's values below those that were given."""
        space = {"profile": "public", "trusted_proxies": 1} if os.environ.get("SPACE_ID") else {}
        said = {} if values.get("public") is None else {"profile": "public" if _is_true(values["public"]) else "local"}
        if said and values.get("profile", said["profile"]) != said["profile"]:
            raise ValueError(f"{PREFIX}PROFILE and {PREFIX}PUBLIC contradict each other; set one of them")
        found = {"profile": "local"} | space | said | values
        found["public"] = found["profile"] == "public"
        return (PUBLIC if found["public"] else {}) | found

    @field_validator("encoders", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() in {"1", "true", "t", "yes", "y", "on"}


@cache
def settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigError: A variable of the environment has a value that it cannot have.
    """
    try:
        return Settings()
    except ValidationError as error:
        fault = error.errors()[0]
        field = "".join(f"{PREFIX}{str(part).upper()}: " for part in fault["loc"][:1])
        message = fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{field}{message} (environment variable).") from None


def changed(found: Settings) -> dict[str, Any]:
    """Return what differs from the plain local profile. Field -> value."""
    plain = {name: field.default for name, field in Settings.model_fields.items()}
    return {name: value for name, value in found if value != plain[name] and name != "public"}


def misspelt() -> list[str]:
    """Return a sentence for every variable of the environment that looks like a setting and is none."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    found = []
    for name in sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known):
        near = difflib.get_close_matches(name, known, n=1)
        found.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "."))
    return found
