"""A class by name, in the folder where the command runs: found last, and what is not found says where was looked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embeddings.encode.class_loading import OUR_PACKAGES, find_class, import_from
from stores.errors import ConfigError, StoreError


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def refused(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        find_class(name, "[encode] encoder")
    assert caught.value.exit_code == 2
    return caught.value


def test_a_module_and_a_package_of_the_folder_and_what_they_import() -> None:
    Path("shared_part.py").write_text("VALUE = 3\n")
    Path("single_model.py").write_text("from shared_part import VALUE\nclass Model:\n    value = VALUE\n")
    Path("own_package").mkdir()
    Path("own_package/model.py").write_text("class Model: value = 4\n")
    assert find_class("single_model:Model", "x").value == 3
    assert find_class("own_package.model:Model", "x").value == 4
    assert sys.path[-1] == str(Path.cwd())


def test_nothing_of_the_folder_stands_before_what_is_installed() -> None:
    """In a process of its own, whose first sight of our packages comes after that of the folder."""
    for package in (*OUR_PACKAGES, "numpy"):
        Path(package).mkdir()
        Path(package, "__init__.py").write_text("raise ImportError('of the user')\n")
    Path("own_model.py").write_text("class Model: pass\n")
    program = (
        "from embeddings.encode.class_loading import find_class; find_class('own_model:Model', 'x'); "
        "import alignment.job, pipeline.nightly, validation.job, retrieval.job, stores.publishing.publish, numpy"
    )
    script = Path("bin", "program.py")  # as a console script: its own folder comes first on the path, not this one
    script.parent.mkdir()
    script.write_text(program)
    # The Ray that other tests share has more folders in PYTHONPATH, and they would come before the folder of the user.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_module_that_is_nowhere_says_where_was_looked() -> None:
    error = refused("no_such_model:Model")
    assert str(Path.cwd()) in error.expected
    assert "site-packages" in error.expected
    assert "no_such_model.py" in error.fix


def test_a_class_that_is_not_there_names_those_that_are() -> None:
    Path("two_models.py").write_text("class First: pass\nclass Second: pass\n")
    error = refused("two_models:Third")
    assert error.expected == "one of First, Second"
    assert str(Path("two_models.py").resolve()) in error.what


def test_a_module_whose_name_is_taken_says_by_what() -> None:
    Path("json").mkdir()
    Path("json/__init__.py").write_text("class Model: pass\n")
    error = refused("json:Model")
    assert f"give {Path.cwd() / 'json'} another name" in error.fix
    assert "json/__init__.py" in error.fix


def test_what_its_module_lacks_or_does_wrong_is_said() -> None:
    Path("needs_other.py").write_text("import no_such_package\n")
    assert "install no_such_package" in refused("needs_other:Model").fix
    Path("broken_text.py").write_text("class Model\n")
    assert "SyntaxError" in refused("broken_text:Model").what
    Path("raises_ours.py").write_text("from stores.errors import StoreError\nraise StoreError('no weights')\n")
    with pytest.raises(StoreError, match="no weights"):
        find_class("raises_ours:Model", "x")


@pytest.mark.parametrize("name", ["", "module", ":Class", "module:"])
def test_what_names_no_class_is_refused(name: str) -> None:
    assert "module:Class" in refused(name).expected


def test_a_folder_that_was_removed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "removed" in refused("no_such_model:Model").expected
    import_from("")
    assert "" not in sys.path[1:]
