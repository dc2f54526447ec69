import sys
from types import ModuleType

import numpy as np
import pytest

import embeddings.foundation
from embeddings.encode.encoder import Encoder, load
from stores.errors import ConfigError, CorruptError, EncoderError


class Constant:
    model_id = "constant"
    dim = 3

    @classmethod
    def load(cls, path):
        if path == "corrupt":
            raise CorruptError("weights are not those that were written")
        if path == "crash":
            raise RuntimeError("no such weights")
        return cls()

    def encode_members(self, histories):
        return np.zeros((len(histories), 3), np.float32)

    def encode_titles(self, titles):
        return np.zeros((len(titles), 3), np.float32)


class Halved(Constant):
    encode_titles = None

    @classmethod
    def load(cls, path):
        return object()


class Flat(Constant):
    dim = 0


class Nameless(Constant):
    model_id = ""


class Unloadable:
    load = None


@pytest.fixture(autouse=True)
def their_module(monkeypatch):
    module = ModuleType("their_models")
    for kind in (Constant, Halved, Flat, Nameless, Unloadable):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "their_models", module)


def test_any_importable_class_will_do():
    encoder = load("their_models:Constant", "anywhere")
    assert isinstance(encoder, Encoder)
    assert (encoder.model_id, encoder.dim) == ("constant", 3)


@pytest.mark.parametrize(
    "spec", ["their_models", ":Constant", "no_such_module:A", "their_models:Missing", "their_models:Unloadable"]
)
def test_a_spec_that_names_no_encoder_is_a_wrong_setting(spec):
    with pytest.raises(ConfigError):
        load(spec, "anywhere")


@pytest.mark.parametrize("name", ["Halved", "Flat", "Nameless"])
def test_what_is_loaded_is_checked(name):
    with pytest.raises(EncoderError, match=r"Encoder|dim|model_id"):
        load(f"their_models:{name}", "anywhere")


def test_a_crash_while_loading_names_class_and_folder():
    with pytest.raises(EncoderError) as caught:
        load("their_models:Constant", "crash")
    assert "their_models:Constant" in str(caught.value)
    assert "crash" in str(caught.value)


def test_errors_of_the_tree_pass_through():
    with pytest.raises(CorruptError):
        load("their_models:Constant", "corrupt")


def test_every_exported_name_is_there():
    for module in (embeddings, embeddings.foundation):
        assert all(hasattr(module, name) for name in module.__all__)
        with pytest.raises(AttributeError):
            _ = module.no_such_name
