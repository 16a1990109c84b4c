"""What the server logs: text for a person, or a JSON object a line for a program that collects logs.

Run ids, counts and times are logged; what people type and upload is not. In JSON a fault has its type and the places
in the code, and not its message, which may quote a person's text.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from mtl.settings import Settings, changed, misspelt

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
QUIET = ("httpx", "sentence_transformers")
log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["places"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False)


def set_up(found: Settings) -> None:
    """Send the log of this process to standard error, in the form that the settings choose."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if found.log_json else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if found.log_json:
        _take_over_uvicorn()


def _take_over_uvicorn() -> None:
    """Let the server's own log go the same way; gradio starts it with uvicorn's default, which is this dictionary."""
    from uvicorn.config import LOGGING_CONFIG

    LOGGING_CONFIG["handlers"] = {}
    LOGGING_CONFIG["loggers"] = {"uvicorn": {"level": "WARNING"}, "uvicorn.access": {"level": "WARNING"}}


def say_settings(found: Settings) -> None:
    """Log the profile, every setting that is not the local default, and every variable that looks misspelt."""
    log.info("profile %s", found.profile)
    for name, value in changed(found).items():
        if name != "profile":
            log.info("setting %s = %s", name, ", ".join(value) if isinstance(value, tuple) else value)
    for sentence in misspelt():
        log.warning("%s", sentence)
