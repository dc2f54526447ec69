"""No secret of a free-form block in any text: by what may be shown, whatever the key's name is."""

import json
import logging
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import read_config
from stores import masking
from stores.errors import SamespaceError, StoreError, UsageError
from stores.feast.repository import PublishConfig
from stores.files.filesystem import Storage
from stores.masking import MASK, PUBLIC_KEYS, MaskedFormatter, mask_block, mask_secrets, register_secrets

KEYS = (
    "api_key",
    "pwd",
    "access_key",
    "credentials",
    "password",
    "sas_token",
    "passphrase",
    "user",
    "x",
    "a_new_option",
)
SECRETS = st.text(
    st.characters(
        min_codepoint=33, max_codepoint=0x17F, exclude_characters=",;&=$'\"\\{}#?", exclude_categories=["Z", "C"]
    ),
    min_size=8,
)


@pytest.fixture(autouse=True)
def _nothing_hidden_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_hidden", set())


def planted(key: str, secret: str) -> list[Any]:
    """Blocks with a secret in every place that a block has."""
    return [
        {"type": "postgres", "host": "db", key: secret},
        {"type": "x", "options": [{key: secret}, {"inner": {key: [secret]}}]},
        {"type": "redis", "connection_string": f"redis-a:6379,redis-b:6380,ssl=true,{key}={secret},db=0"},
        {"type": "x", "dsn": f"postgresql://u:{secret}@db:5432/features"},
        {"type": "x", "path": f"postgresql://u:{secret}@db:5432/features"},
        {"type": "x", "uri": f"https://db.example/features?{key}={secret}&timeout=5"},
        {"type": "x", "dsn": f"host=db {key}='{secret}' dbname=features"},
    ]


@given(key=st.sampled_from(KEYS), secret=SECRETS, place=st.integers(0, 6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_planted_secret_is_in_no_text(key: str, secret: str, place: int) -> None:
    """Not in a library's message, quoted in any way, in an error of ours, its copy from a worker, or a trace."""
    masking._hidden.clear()
    block = planted(key, secret)[place]
    register_secrets(block)
    message = f"cannot connect with {block} | {block!r} | {json.dumps(block)} | {secret} | '{secret}' | pw={secret}."
    error = StoreError(message, where=message, expected=message, fix=message)
    try:
        raise RuntimeError(message) from error
    except RuntimeError:
        trace = mask_secrets(traceback.format_exc())
    for text in (
        mask_secrets(message),
        str(error),
        str(pickle.loads(pickle.dumps(error))),  # noqa: S301
        trace,
        str(mask_block(block)),
    ):
        assert secret not in text
        assert MASK in text


@given(secret=SECRETS, section=st.sampled_from(["online_store", "offline_store"]), key=st.sampled_from(KEYS))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_errors_of_the_configuration_never_show_a_value_of_a_store(secret: str, section: str, key: str) -> None:
    """Wherever the mistake is: beside the block, in it, in place of it, in the key's own name."""
    value = json.dumps({"type": "redis", key: secret})
    mistakes = [
        [f"publish.{section}={value}", "publish.nonsense=1"],
        [f"publish.{section}={value}", "publish.slots=7"],
        [f"publish.{section}={json.dumps(secret)}"],
        [f"publish.{section}=redis:6379,{key}={secret}"],
        [f"publish={value}"],
        [f"publish={secret}"],
        [f"{section}.{key}={secret}"],
        [f"publish.{section}.{key}={secret}", "publish.slots=x"],
        [f"publish.{key}={secret}"],
        [f"gate={secret}"],
    ]
    for settings_ in mistakes:
        with pytest.raises(SamespaceError) as error:
            read_config(None, settings_)
        assert secret not in str(error.value), settings_
    good = read_config(None, [f"publish.{section}={value}"])
    assert secret not in repr(good)


def test_errors_of_the_configuration_still_say_what_they_found() -> None:
    with pytest.raises(SamespaceError, match=r"publish\.slots.*found 7"):
        read_config(None, ["publish.slots=7"])
    with pytest.raises(SamespaceError, match=r"gate\.quality.*found 'much'"):
        read_config(None, ["gate.quality.min_ratio_to_popularity=much"])


def test_harmless_keys_are_shown_and_others_are_not() -> None:
    block = {
        "type": "redis",
        "redis_type": "redis_cluster",
        "connection_string": "r:1,password=hunter22",
        "who": "me-too",
    }
    assert mask_block(block) == {
        "type": "redis", "redis_type": "redis_cluster", "connection_string": MASK, "who": MASK
    }  # fmt: skip
    assert all(key == key.lower() for key in PUBLIC_KEYS)
    register_secrets(block)
    assert mask_secrets("r:1 refused hunter22 of me-too (type redis)") == "r:1 refused *** of *** (type redis)"


def test_environment_variables_are_named_and_their_values_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_STORE_KEY", "filled-in-later")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    PublishConfig(online_store={"type": "redis", "connection_string": "r:1,password=${OUR_STORE_KEY}"})
    told = mask_secrets("WRONGPASS filled-in-later for ${OUR_STORE_KEY}, of-the-environment")
    assert told == "WRONGPASS *** for ${OUR_STORE_KEY}, ***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:se/cr@et@bucket/a", "s3://***@bucket/a"),
        ("see https://user@host/x?sig=abc&y=1 there", "see https://***@host/x?*** there"),
        ("api_key=abc, pwd: 'a b', rows=5", "api_key=***, pwd: ***, rows=5"),
        ("its token is 3, tokens: 5, keys: 7", "its token is 3, tokens: 5, keys: 7"),
        ("mail me@example.com, members a@b", "mail me@example.com, members a@b"),
    ],
)
def test_text_of_which_no_configuration_is_known(text: str, expected: str) -> None:
    assert mask_secrets(text) == expected


def test_logs_are_masked_with_their_traces() -> None:
    register_secrets({"api": "planted-secret"})
    try:
        raise ValueError("planted-secret")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "no %s", ("planted-secret",), None)
        record.exc_info = __import__("sys").exc_info()
    assert "planted-secret" not in MaskedFormatter("%(message)s").format(record)


@pytest.mark.parametrize("uri", ["s3://key:secret-key@bucket/x", "s3://bucket/x?secret_key=secret-key"])
def test_addresses_with_credentials_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="neither credentials nor options") as error:
        Storage(uri)
    assert "secret-key" not in str(error.value)
    assert Storage("s3://bucket/a@b/what?").uri == "s3://bucket/a@b/what?"
