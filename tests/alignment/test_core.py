import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = """
import sys
import alignment
for name in alignment.__all__:
    getattr(alignment, name)
heavy = {"ray", "torch", "feast", "faiss", "duckdb", "great_expectations", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""


def test_all_that_is_public_needs_numpy_and_no_heavy_library() -> None:
    subprocess.run([sys.executable, "-c", EVERYTHING], cwd=ROOT, check=True)
