"""One TOML file; unknown keys are refused by name; later sources win."""

import json
import tomllib
from pathlib import Path

import pytest

from pipeline.config import Config, default_config_toml, read_config
from stores.errors import ConfigError, NotFoundError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_a_file_the_defaults_hold() -> None:
    assert read_config() == Config()


def test_flags_win_over_settings_and_those_over_the_file() -> None:
    Path("samespace.toml").write_text('lake = "a"\nworkspace = "a"\n[encode]\nbatch_size = 1\n')
    config = read_config(None, ["encode.batch_size=2", "workspace=b"], workspace="c")
    assert (config.lake, config.workspace, config.encode.batch_size) == ("a", "c", 2)


@pytest.mark.parametrize("setting", ["encode.batch=1", "nonsense=1", "enc.batch_size=1"])
def test_an_unknown_key_is_refused_by_name(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key {setting.split('=')[0].split('.')[0]}") as caught:
        read_config(None, [setting])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("setting", ["encode.batch_size=many", "encode.batch_size", "=1", "lake.x=1"])
def test_an_unusable_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        read_config(None, [setting], lake=None)


def test_rows_that_did_not_change_may_not_expire() -> None:
    block = {"type": "redis", "connection_string": "redis:6379,password=correct-horse", "key_ttl_seconds": 60}
    with pytest.raises(ConfigError, match="key_ttl_seconds cannot be set") as caught:
        read_config(None, [f"publish.online_store={json.dumps(block)}"])
    assert "correct-horse" not in str(caught.value)


def test_a_named_file_must_be_there_and_be_toml() -> None:
    with pytest.raises(NotFoundError, match=r"no\.toml"):
        read_config("no.toml")
    Path("bad.toml").write_text("lake = ")
    with pytest.raises(ConfigError, match="TOML"):
        read_config("bad.toml")


def test_the_sample_is_the_default_commented_or_not() -> None:
    sample = default_config_toml()
    Path("samespace.toml").write_text(sample)
    assert read_config() == Config()
    lines = [line.removeprefix("#") for line in sample.splitlines() if not line.startswith("# ")]
    assert Config.model_validate(tomllib.loads("\n".join(lines))) == Config()
    assert "# rank is not set by default" in sample.splitlines()
