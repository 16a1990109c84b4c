"""What this installation allows and where it keeps things: `MTL_*` environment variables, read once."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Limits and folders; every field can be set as `MTL_<FIELD>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="MTL_", frozen=True)

    runs_dir: Path = Field(Path("checkpoints"), description="Folder of the run folders")
    cache_dir: Path = Field(Path.home() / ".cache" / "mtl", description="Folder of measurements that can be redone")
    max_cache_bytes: int = Field(2_000_000_000, ge=0, description="Most bytes of embeddings kept in the cache folder")
    max_bytes: int = Field(500_000_000, gt=0, description="Largest file that is read, in bytes")
    max_rows: int = Field(1_000_000, gt=0, description="Most data rows in one table")
    max_columns: int = Field(1_000, gt=0, description="Most columns in one table")
    max_cell_characters: int = Field(1_000_000, gt=0, description="Longest cell, in characters")
    max_labels: int = Field(1_000, gt=1, description="Most classes of one task")
    max_label_characters: int = Field(200, gt=0, description="Longest class name, in characters")
    max_tasks: int = Field(32, gt=0, description="Most heads of one model")
    max_texts: int = Field(1_000, gt=0, description="Most texts typed into one tab or sent in one API call")
    max_text_characters: int = Field(10_000, gt=0, description="Longest text typed or sent, in characters")
    public: bool = Field(
        "SPACE_ID" in os.environ, description="Strangers share the page: a run is its owner's; on a Space by itself"
    )
    max_queued_runs: int = Field(20, gt=0, description="Most runs waiting for their turn")


@cache
def settings() -> Settings:
    """Return the settings of this process."""
    return Settings()
