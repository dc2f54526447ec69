"""DuckDB is opened only where it will not take the process down."""

from pathlib import Path

import pytest

from stores.errors import StoreError
from stores.lake.scan import ScanConfig, connect


def test_a_current_directory_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreError, match="directory was removed"), connect(None, ScanConfig()):
        pass
