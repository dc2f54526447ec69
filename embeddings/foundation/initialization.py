"""Initial weights: from co-occurrence (PPMI), or from an earlier model whose titles and sizes may differ.

Everything is copied by meaning, not by place: a title's vector by its id, a metadata value's by its
name. A title that the earlier model did not know starts as ½ the mean of the titles nearest by metadata
+ ½ the mean of all + a little noise.
"""

import numpy as np
import numpy.typing as npt
import torch

from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.sequences import POST_COLUMNS, TokenSequences, code_sizes
from embeddings.foundation.vocabulary import CONTEXTS, Vocabulary

_NUM_NEIGHBOURS = 10
_NOISE_STD = 0.1
_ROWS_PER_BATCH = 1024

Moves = tuple[torch.Tensor, torch.Tensor]
"""Rows of the new table, and the rows of the old one that they come from."""


@torch.no_grad()
def inherit_weights(model: FoundationModel, vocabulary: Vocabulary, parent: Checkpoint) -> None:
    """Copy all that `parent` and the new `model` of `vocabulary` share; the rest keeps its own start."""
    old = dict(parent.model.named_parameters())
    by_meaning = _tables(vocabulary, parent.vocabulary)
    for name, parameter in model.named_parameters():
        if name in by_meaning:
            target, source = by_meaning[name]
            width = min(parameter.shape[1], old[name].shape[1])
            parameter[target, :width] = old[name][source, :width]
        elif name in old and not name.startswith(("tower.metadata.", "heads.")):
            shared = tuple(slice(0, min(a, b)) for a, b in zip(parameter.shape, old[name].shape, strict=True))
            parameter[shared] = old[name][shared]
    _inherit_metadata(model, vocabulary, parent)
    _init_new_titles(model, vocabulary, parent.vocabulary)


def _tables(new: Vocabulary, old: Vocabulary) -> dict[str, Moves]:
    """The tables whose rows have names, and which rows they share."""
    return {"tower.ids.weight": _title_moves(new, old), "tokens.codes.weight": _code_moves(new, old)}


def _title_moves(new: Vocabulary, old: Vocabulary) -> Moves:
    rows = torch.from_numpy(old.rows(new.title_ids))
    target = rows.nonzero().flatten()
    ends = torch.tensor([[0, new.start], [0, old.start]])
    return torch.cat([ends[0], target + 1]), torch.cat([ends[1], rows[target]])


def _code_moves(new: Vocabulary, old: Vocabulary) -> Moves:
    """Contexts by value; the other codes (hours, gaps, levels …) mean the same in every model."""
    targets, sources, at_new, at_old = [], [], 0, 0
    for feature, (n, m) in enumerate(zip(code_sizes(new), code_sizes(old), strict=True)):
        context = feature - len(POST_COLUMNS) - 2
        if 0 <= context < len(CONTEXTS):
            target, source = _shared(new.contexts[CONTEXTS[context]], old.contexts[CONTEXTS[context]], 2)
        else:
            target = source = torch.arange(min(n, m))
        targets.append(target + at_new)
        sources.append(source + at_old)
        at_new, at_old = at_new + n, at_old + m
    return torch.cat(targets), torch.cat(sources)


def _shared(new: tuple[str, ...], old: tuple[str, ...], special: int) -> Moves:
    """Codes of the values that both know, after `special` ones that mean the same in both."""
    places = {value: place for place, value in enumerate(old)}
    both = [(place, places[value]) for place, value in enumerate(new) if value in places]
    pairs = torch.tensor([(code, code) for code in range(special)] + [(a + special, b + special) for a, b in both])
    return pairs[:, 0], pairs[:, 1]


def _inherit_metadata(model: FoundationModel, vocabulary: Vocabulary, parent: Checkpoint) -> None:
    """Value vectors by field and value, and the columns of the projection by field."""
    encoder, old = model.tower.metadata, parent.model.tower.metadata
    if encoder.project is None or old.project is None:
        return
    fields, old_fields = _fields(vocabulary), _fields(parent.vocabulary)
    width, old_width = (model.field_dim for model in (encoder, old))
    rows, shared = min(encoder.dim, old.dim), min(width, old_width)
    tables, old_tables = list(encoder.fields.parameters()), list(old.fields.parameters())
    for place, (field, values) in enumerate(fields.items()):
        if field not in old_fields:
            encoder.project.weight[:, place * width : (place + 1) * width] = 0.0
            continue
        other = list(old_fields).index(field)
        table, old_table = tables[place], old_tables[other]
        every = torch.arange(min(len(table), len(old_table)))
        target, source = _shared(values, old_fields[field], 1) if values else (every, every)
        table[target, :shared] = old_table[source, :shared]
        columns, old_columns = slice(place * width, place * width + shared), other * old_width
        encoder.project.weight[:rows, columns] = old.project.weight[:rows, old_columns : old_columns + shared]
    encoder.project.bias[:rows] = old.project.bias[:rows]
    _inherit_content(model, parent.model)


def _inherit_content(model: FoundationModel, parent: FoundationModel) -> None:
    """The projection of content vectors, where both have some of one width."""
    encoder, old = model.tower.metadata, parent.tower.metadata
    if encoder.content is None or old.content is None or encoder.content.weight.shape != old.content.weight.shape:
        return
    encoder.content.weight.copy_(old.content.weight)
    if encoder.project is not None and old.project is not None and encoder.dim == old.dim:
        encoder.project.weight[:, -encoder.dim :] = old.project.weight[:, -old.dim :]


def _fields(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The values of each field in the order of the encoder's tables; hashed text, the last, has no list of them."""
    metadata = vocabulary.metadata
    return {**metadata.values, **({"text": ()} if metadata.words else {})}


def _init_new_titles(model: FoundationModel, vocabulary: Vocabulary, old: Vocabulary) -> None:
    """½ the mean of the nearest known titles by metadata + ½ the mean of all known ones + noise."""
    known = torch.from_numpy(old.rows(vocabulary.title_ids)) > 0
    ids = model.tower.ids.weight[1:-1]
    if known.all() or not known.any():
        return
    known_titles = model.known_features
    vectors = model.tower.metadata(known_titles.codes, known_titles.content)[1:-1]
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    centre, spread = ids[known].mean(dim=0), float(ids[known].std())
    for rows in (~known).nonzero().flatten().split(_ROWS_PER_BATCH):  # type: ignore[no-untyped-call]
        likeness = vectors[rows] @ vectors[known].T
        nearest = likeness.topk(min(_NUM_NEIGHBOURS, likeness.shape[1]), dim=1).indices
        ids[rows] = 0.5 * ids[known][nearest].mean(dim=1) + 0.5 * centre
        ids[rows] += _NOISE_STD * spread * torch.randn(len(rows), ids.shape[1])


_WINDOW_TOKENS = 5
_SMOOTHING = 0.75
_OVERSAMPLING = 8
_MAX_POSITIONS = 4_000_000
"""Enough for the leading directions: pairs are counted in so many positions, members being in no order."""


def ppmi_title_vectors(tokens: TokenSequences, titles: int, dim: int) -> torch.Tensor:
    """(titles, dim) float32 of about unit rows; row r is the title of vocabulary row r + 1.

    Deterministic for the state of torch's random numbers. Directions that the data do not have are zero.
    """
    rank = min(dim, titles)
    information = _ppmi(*_cooccurrences(tokens, titles), titles)
    left, strength, _ = torch.svd_lowrank(information, q=min(rank + _OVERSAMPLING, titles), niter=4)
    vectors = torch.zeros(titles, dim)
    vectors[:, :rank] = (left * strength.sqrt())[:, :rank]
    return torch.nn.functional.normalize(vectors, dim=1)


def _cooccurrences(tokens: TokenSequences, titles: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Keys row · titles + column of pairs at most `_WINDOW_TOKENS` tokens apart in a history; sums of 1 / distance."""
    owner = np.repeat(np.arange(len(tokens.starts) - 1), np.diff(tokens.starts))[:_MAX_POSITIONS]
    titles_met = tokens.targets[:_MAX_POSITIONS]
    keys, weights = [], []
    for distance in range(1, _WINDOW_TOKENS + 1):
        one, two = titles_met[:-distance], titles_met[distance:]
        both = (one > 0) & (two > 0) & (one != two) & (owner[:-distance] == owner[distance:])
        keys += [(one[both] - 1) * titles + two[both] - 1, (two[both] - 1) * titles + one[both] - 1]
        weights += [np.full(len(key), 1 / distance) for key in keys[-2:]]
    found, which = np.unique(np.concatenate(keys), return_inverse=True)
    return found, np.bincount(which, np.concatenate(weights), minlength=len(found)).astype(np.float64)


def _ppmi(keys: npt.NDArray[np.int64], counts: npt.NDArray[np.float64], titles: int) -> torch.Tensor:
    """Sparse symmetric log(p(i, j) / p(i) p(j)), p(i) smoothed, where it is positive."""
    rows, columns = np.divmod(keys, titles)
    total = np.bincount(rows, counts, minlength=titles)
    smooth = np.maximum(total, 1e-9) ** _SMOOTHING
    scale = total.sum() / smooth.sum()
    expected = smooth[rows] * smooth[columns] / smooth.sum()
    value = np.log(np.maximum(counts / np.maximum(expected * scale, 1e-9), 1e-9))
    kept = value > 0
    index = torch.from_numpy(np.stack([rows[kept], columns[kept]]))
    values = torch.from_numpy(value[kept].astype(np.float32))
    return torch.sparse_coo_tensor(index, values, (titles, titles), check_invariants=True).coalesce()
