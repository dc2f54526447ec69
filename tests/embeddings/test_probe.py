"""The probe of the night's encoder: the same question has the same answer, in the width that was said."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embeddings.encode.config import EncodeConfig
from embeddings.encode.encoder import load, takes_device
from embeddings.encode.probe import NOTED, PROBE_ROWS, REFUSED, distance, probe, probe_sample
from embeddings.encode.reuse import ReusableVectors
from embeddings.encode.worker import Question, ShardTask, ShardWorker
from stores.errors import EncoderError, MismatchError
from stores.releases.release import Release, StageReport

HISTORIES = {member: [member % 10, (3 * member) % 10] for member in range(30)}
FIRST = "histories/part-00000.parquet"


@pytest.fixture
def asked(tmp_path: Path, nights: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """asked(kind): what a worker finds of an encoder of `own_models`, and the worker."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def ask(kind: str, before: Release | None = None, carry: ReusableVectors | None = None, **settings: Any) -> Any:
        config = EncodeConfig(encoder=f"own_models:{kind}", model=str(tmp_path), **settings)
        worker = ShardWorker(config, nights.stage(HISTORIES, before), carry)
        return worker.examine(Question(FIRST)).probe, worker

    return ask


@pytest.fixture
def live(nights: Any, asked: Any) -> Release:
    """A sealed release of the encoder `Titles`, whose members lie where the model puts them."""
    _, worker = asked("Titles")
    for shard in range(3):
        name = f"part-{shard:05d}.parquet"
        worker.encode(ShardTask("members", f"work/native/members/{name}", f"histories/{name}"))
    sealed: Release = nights.seal(worker.release, StageReport(name="encode", metrics={"dim": 4}))
    return sealed


def test_a_sound_encoder_has_no_notes_and_is_asked_about_one_small_batch(asked: Any, tmp_path: Path) -> None:
    found, worker = asked("Titles")
    assert (found.dim, found.carried, found.notes) == (4, None, ())
    assert found.again < NOTED
    seen = (worker.encoder.folder / "seen").read_text().split()
    assert len(seen) == 10 + 4  # the ten members of a shard, and every third of them again
    assert probe_sample(pa.table({"x": range(10**6)})).num_rows == PROBE_ROWS


@pytest.mark.parametrize("kind", ["Buffered", "FailsOnSeven", "NotFinite"])
def test_types_are_converted_and_bad_rows_are_left_to_the_shards(asked: Any, kind: str) -> None:
    assert asked(kind)[0].notes == ()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Wide", r"encode_members: the encoder returned shape \(1, 8\), expected \(1, 4\)"),
        ("WideTitles", r"encode_titles: the encoder returned shape \(1, 5\), expected \(1, 4\)"),
        ("Complex", "entries of type complex"),
    ],
)
def test_another_width_or_type_is_an_error_that_names_both(asked: Any, kind: str, said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        asked(kind)


@pytest.mark.parametrize(("kind", "side"), [("Draws", "members"), ("Centred", "members"), ("DrawsTitles", "titles")])
def test_answers_that_differ_are_refused(asked: Any, kind: str, side: str) -> None:
    with pytest.raises(EncoderError, match=f"encode_{side} gives different vectors"):
        asked(kind)


def test_answers_that_differ_a_little_are_noted(asked: Any) -> None:
    found, _ = asked("Wavers")
    assert NOTED < found.again < REFUSED
    (note,) = found.notes
    assert "encode_members gives different vectors" in note


def test_the_device_is_given_to_whom_it_concerns_and_noted_where_none_is_taken(asked: Any, tmp_path: Path) -> None:
    assert takes_device("own_models:Placed")
    assert not takes_device("own_models:Titles")
    asked("Placed")
    assert (tmp_path / "device").read_text() == "cpu"
    assert asked("Placed", gpus_per_worker=1.0)[0].notes == ()
    assert (tmp_path / "device").read_text() == "cuda"
    (note,) = asked("Titles", gpus_per_worker=1.0)[0].notes
    assert "takes no `device`" in note


class Here:
    model_id, dim = "here", np.int64(2)

    def __init__(self, device: str = "nowhere") -> None:
        self.device = device

    def encode_members(self, histories: pa.Table) -> Any:
        return np.zeros((len(histories), 2))

    encode_titles = encode_members


def test_a_class_without_load_gets_the_device_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "placed_models", sys.modules[__name__])
    assert load("placed_models:Here", "", "cuda").device == "cuda"  # type: ignore[attr-defined]
    assert load("placed_models:Here", "").device == "cpu"  # type: ignore[attr-defined]
    monkeypatch.setattr(Here, "dim", True)
    with pytest.raises(EncoderError, match="dim is True"):
        load("placed_models:Here", "")


# --- beside the live release


def test_members_that_are_carried_have_the_vectors_that_the_model_gives(asked: Any, live: Release) -> None:
    found, _ = asked("Titles", live, ReusableVectors(live, lambda table: table))
    assert found.carried == 0.0
    assert found.notes == ()


def test_another_model_under_the_same_id_is_refused_before_it_is_mixed_in(asked: Any, live: Release) -> None:
    with pytest.raises(MismatchError, match=live.release_id) as caught:
        asked("Retrained", live, ReusableVectors(live, lambda table: table))
    assert "--full" in str(caught.value)
    assert asked("Retrained", live)[0].notes == ()  # everybody is encoded anew: the alignment judges that


@pytest.mark.parametrize("carrying", [True, False])
def test_another_width_under_the_same_id_is_refused_with_both_widths(asked: Any, live: Release, carrying: bool) -> None:
    with pytest.raises(MismatchError, match=r"width 5.*width 4") as caught:
        asked("Wider", live, ReusableVectors(live, lambda table: table) if carrying else None)
    assert "another model_id" in str(caught.value)


def test_a_worker_of_another_width_than_the_probed_one_writes_no_shard(asked: Any) -> None:
    _, worker = asked("Titles")
    with pytest.raises(MismatchError, match=r"width 4.*width 5"):
        worker.encode(ShardTask("members", "work/native/members/part-00000.parquet", FIRST), None, 5)
    assert worker.release.storage.files("work/native") == []
    worker.encode(ShardTask("members", "work/native/members/part-00000.parquet", FIRST), None, 4)


# --- distances


def test_a_distance_is_the_largest_relative_one_of_finite_rows() -> None:
    x = np.array([[3.0, 4.0], [1.0, 0.0], [np.nan, 0.0]], np.float32)
    y = np.array([[3.0, 4.0], [1.0, 0.5], [0.0, 0.0]], np.float32)
    assert distance(x, y) == pytest.approx(0.5 / np.hypot(1, 0.5))
    assert distance(x, x) == 0.0
    assert distance(x[2:], y[2:]) is None
    assert distance(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)) == 0.0


def test_an_encoder_whose_catalogue_is_not_what_it_learned_says_so(asked: Any) -> None:
    class Reads(Here):
        def catalogue_notes(self, catalogue: pa.Table) -> list[str]:
            return [f"{len(catalogue)} titles"]

    rows = pa.table({"x": [1, 2]})
    assert probe(Reads(), rows, rows).notes == ("2 titles",)
    assert probe(Here(), rows.slice(0, 0), rows.slice(0, 0)).again is None
