"""Fixtures of the data tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mtl.settings import settings


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set limits as the environment does: `limit(max_rows=3)`."""

    def set_limits(**values: int) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"MTL_{name.upper()}", str(value))
        settings.cache_clear()

    return set_limits
