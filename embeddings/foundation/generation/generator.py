"""A trained generator: candidates and short sessions of titles, written digit by digit.

On disk it lies in the folder of the model whose states it reads: `generator/weights.safetensors` (codebooks and head),
`generator/ids.parquet` (the ids of the titles that it was trained with) and their hashes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import load, save

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.decoding import Sessions, met_titles, next_titles
from embeddings.foundation.encoding import member_vectors, title_vectors
from embeddings.foundation.finiteness import weights_fault
from embeddings.foundation.generation.beam_search import search
from embeddings.foundation.generation.id_head import IdHead
from embeddings.foundation.generation.trie import Trie
from embeddings.foundation.semantic_ids import Ids, SemanticIds
from embeddings.foundation.tokens import Tokens
from stores import columns
from stores.errors import CorruptError, EncoderError, NotFoundError
from stores.parquet import parquet_bytes, table_of
from stores.storage import Storage, sha256

FOLDER = "generator"
_WEIGHTS, _IDS, _HASHES = (f"{FOLDER}/{name}" for name in ("weights.safetensors", "ids.parquet", "hashes.json"))
_CODEBOOKS, _DIGITS = "codebooks", "digits"
_MEMBERS = 32


@dataclass(frozen=True)
class Generator:
    """A model, its head of digits, and the ids (n, levels + 1) of the n titles of its vocabulary."""

    trained: Checkpoint
    head: IdHead
    books: SemanticIds
    ids: Ids

    @classmethod
    def load(cls, path: str | Path) -> "Generator":
        """That of the model in a folder.

        Raises as `checkpoint.read`, NotFoundError where the model has none, CorruptError naming a file that is not
        the one written, EncoderError naming weights that are not finite.
        """
        trained, _ = checkpoint.read(str(path))
        folder = Storage(str(path))
        if not folder.exists(_HASHES):
            raise NotFoundError("this model has no generator", where=folder.uri, fix="train the task next_id")
        hashes = checkpoint.read_hashes(folder, _HASHES, (_WEIGHTS, _IDS))
        files = {name: folder.read(name) for name in hashes}
        for name, data in files.items():
            if sha256(data) != hashes[name]:
                raise CorruptError(f"{name} is not the file that was written", where=folder.uri, fix="train it again")
        tensors = load(files[_WEIGHTS])
        if fault := weights_fault(tensors.items()):
            raise EncoderError(
                f"the generator cannot be used: {fault}", where=f"{folder.uri}/{_WEIGHTS}", fix="train the task again"
            )
        books = SemanticIds(tensors.pop(_CODEBOOKS))
        head = IdHead(books).eval()
        head.load_state_dict(tensors)
        digits = table_of(files[_IDS], _IDS)[_DIGITS].combine_chunks()
        ids = np.asarray(digits.flatten(), np.int32).reshape(-1, books.levels + 1)
        return cls(trained, head, books, ids)

    def save(self, folder: Storage) -> None:
        """Write it into the folder of its model."""
        digits = pa.array(self.ids.tolist(), pa.list_(pa.int32()))
        titles = pa.table({columns.TITLE_ID: self.trained.vocabulary.title_ids, _DIGITS: digits})
        tensors = {_CODEBOOKS: self.books.codebooks, **self.head.state_dict()}
        weights = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        files = {_WEIGHTS: weights, _IDS: bytes(parquet_bytes(titles))}
        for name, data in files.items():
            folder.write(name, data)
        folder.write(_HASHES, json.dumps({name: sha256(data) for name, data in files.items()}, indent=1).encode())

    @torch.no_grad()
    def candidates(self, histories: pa.Table, catalogue: pa.Table, count: int, beam: int = 50) -> Sessions:
        """The `count` likeliest titles of a catalogue for each member, none of which it had met before.

        Rows of the catalogue and natural logarithms of their chances, (n, count), best first; −1 and −∞ where the kept
        prefixes lead to fewer. A title that the model has never met is reached by the id of its metadata's vector.
        """
        model, vocabulary = self.trained.model.eval(), self.trained.vocabulary
        members = torch.from_numpy(member_vectors(model, Tokens.of(histories, vocabulary))) * model.scale
        vectors = title_vectors(model, vocabulary, catalogue)
        trie, titles = Trie.of(self.ids_of(catalogue, vectors), vectors), torch.from_numpy(vectors)
        rows, scores = np.zeros((len(members), count), np.int64), np.zeros((len(members), count), np.float32)
        for at in range(0, len(members), _MEMBERS):
            part = slice(at, at + _MEMBERS)
            met = met_titles(histories.slice(at, _MEMBERS), catalogue)
            found, likely = search(self.head, trie, members[part], titles, count, beam, met)
            rows[part], scores[part] = found.numpy(), likely.numpy()
        return Sessions(rows, scores)

    def sessions(self, histories: pa.Table, catalogue: pa.Table, count: int, beam: int = 50) -> Sessions:
        """The next `count` titles of each member, one after the other, each the likeliest after those before it.

        As `decoding.next_titles`, with kept keys and values, but every title is generated; scores are log-chances.
        """
        model = self.trained.model.eval()
        vectors = title_vectors(model, self.trained.vocabulary, catalogue)
        trie = Trie.of(self.ids_of(catalogue, vectors), vectors)
        scale = float(model.scale)

        def pick(members: torch.Tensor, titles: torch.Tensor, met: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rows, scores = search(self.head, trie, members * scale, titles / scale, 1, beam, met)
            return scores[:, 0], rows[:, 0]

        return next_titles(self.trained, histories, catalogue, count, pick=pick)

    def ids_of(self, catalogue: pa.Table, vectors: np.ndarray) -> Ids:
        """(m, levels + 1) ids of a catalogue's titles: their own, or new ones that go on after those."""
        own = pc.index_in(catalogue[columns.TITLE_ID], value_set=self.trained.vocabulary.title_ids)
        rows = np.asarray(pc.fill_null(own, -1), np.int64)
        found = self.ids[rows]
        found[rows < 0] = self.books.assign(vectors[rows < 0], self.ids)
        return found
