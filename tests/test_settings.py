"""The two profiles: which values they have, and how the environment chooses and changes them."""

from __future__ import annotations

from typing import Any

import pytest

from mtl.choices import DEFAULT_ENCODER
from mtl.errors import ConfigError
from mtl.settings import PUBLIC, Settings, changed, misspelt, settings

LIMITS = sorted(PUBLIC.keys() - {"log_json", "encoders"})


@pytest.fixture(autouse=True)
def _no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACE_ID", "MTL_PUBLIC", "MTL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    return settings()


def test_settings_are_local_unless_something_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch)
    assert (found.profile, found.public) == ("local", False)
    assert found.max_epochs is None and found.encoders is None and found.max_rows == 1_000_000
    assert set(changed(found)) == {"runs_dir", "cache_dir", "precision"}  # which the tests set


@pytest.mark.parametrize(
    "environment",
    [{"SPACE_ID": "someone/page"}, {"MTL_PROFILE": "public"}, {"MTL_PUBLIC": "1"}, {"MTL_PUBLIC": "true"}],
)
def test_settings_of_a_shared_page_are_the_table_of_public_values(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    found = read(monkeypatch, **environment)
    assert (found.profile, found.public) == ("public", True)
    assert {name: getattr(found, name) for name in PUBLIC} == PUBLIC
    assert found.encoders == (DEFAULT_ENCODER,)


@pytest.mark.parametrize("environment", [{"MTL_PROFILE": "local"}, {"MTL_PUBLIC": "0"}])
def test_settings_of_a_space_can_be_local(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    found = read(monkeypatch, SPACE_ID="someone/page", **environment)
    assert (found.public, found.max_epochs) == (False, None)


def test_settings_count_one_proxy_on_a_space_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, MTL_PROFILE="public").trusted_proxies == 0
    assert read(monkeypatch, SPACE_ID="someone/page").trusted_proxies == 1
    assert read(monkeypatch, MTL_TRUSTED_PROXIES="2").trusted_proxies == 2


@pytest.mark.parametrize("field", LIMITS)
def test_settings_every_public_limit_is_tighter_than_the_local_one(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    before = getattr(read(monkeypatch), field)
    after = getattr(read(monkeypatch, MTL_PROFILE="public"), field)
    assert before is None or after <= before


@pytest.mark.parametrize("field", LIMITS)
def test_settings_of_the_environment_come_before_those_of_the_profile(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    found = read(monkeypatch, MTL_PROFILE="public", **{f"MTL_{field.upper()}": "77"})
    assert getattr(found, field) == 77
    assert changed(found)[field] == 77


def test_settings_none_lifts_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, MTL_PROFILE="public", MTL_MAX_EPOCHS="none", MTL_ENCODERS="none")
    assert (found.max_epochs, found.encoders, found.max_batch_size) == (None, None, 64)


def test_settings_read_encoders_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, MTL_ENCODERS="one/two@abc, three/four").encoders == ("one/two@abc", "three/four")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"MTL_MAX_ROWS": "many"}, "MTL_MAX_ROWS: .*valid integer"),
        ({"MTL_MAX_EPOCHS": "0"}, "MTL_MAX_EPOCHS: .*greater than 0"),
        ({"MTL_PROFILE": "open"}, "MTL_PROFILE: .*'local' or 'public'"),
        ({"MTL_PROFILE": "local", "MTL_PUBLIC": "1"}, "contradict each other"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        read(monkeypatch, **environment)
    assert "\n" not in str(caught.value)


def test_settings_name_what_a_misspelt_variable_could_have_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTL_REQUIRE_BROWSER", raising=False)  # of these tests, and no setting
    assert misspelt() == []
    monkeypatch.setenv("MTL_MAX_ROW", "5")
    assert misspelt() == ["MTL_MAX_ROW is not a setting; did you mean MTL_MAX_ROWS?"]


def test_settings_each_say_what_they_are() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert set(PUBLIC) <= set(Settings.model_fields)
