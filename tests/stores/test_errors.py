"""One exception tree: every error of ours derives from SamespaceError and survives pickling."""

import inspect
import pickle

import pytest

from stores import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_in_the_tree_and_in_the_drawing(kind: type[errors.SamespaceError]) -> None:
    assert issubclass(kind, errors.SamespaceError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_fields_between_processes(kind: type[errors.SamespaceError]) -> None:
    error = kind("no lake", where="/x", expected="a folder", fix="make one")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert str(again) == str(error)
    assert all(word in str(error) for word in ("no lake", "/x", "a folder", "make one"))


def test_exit_codes_are_the_promised_ones() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert codes["UsageError"] == codes["ConfigError"] == codes["NotFoundError"] == 2
    assert (codes["ContractError"], codes["GateError"], codes["BusyError"]) == (3, 4, 5)
