"""What a training learns from and what it is judged on: the last new title of some members is held out.

Only of those who are asked: the newest events teach most, and on short histories one event in nine is much.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation import baselines
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig, TrainingConfig, num_positions
from embeddings.foundation.encode import member_vectors, title_features, title_vectors
from embeddings.foundation.evaluation_queries import Ints, Queries, build_queries, histories_before, last_new_title
from embeddings.foundation.evaluation_splits import with_plays_of
from embeddings.foundation.initialization import inherit_weights, ppmi_title_vectors
from embeddings.foundation.metrics import Ranking, inner_product_scorer, rank_titles
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.point_in_time import drop_unseen_titles
from embeddings.foundation.sample_weights import with_sample_weights
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary
from stores import schema
from stores.errors import ContractError, TrainingError


@dataclass(frozen=True)
class TrainingData:
    """Histories without their held-out ends, as tokens, and questions about those ends."""

    histories: pa.Table
    known: pa.Table
    """The catalogue's rows of the vocabulary, in its order."""
    vocabulary: Vocabulary
    tokens: TokenSequences
    queries: Queries
    answers: TokenSequences
    """The histories of the questions as tokens."""

    @classmethod
    def of(
        cls,
        histories: pa.Table,
        catalogue: pa.Table,
        config: FoundationConfig,
        seed: int,
        vocabulary: Vocabulary | None = None,
    ) -> "TrainingData":
        """Hold out and tokenise, with a vocabulary of the data's own or a given one.

        Raises ContractError where nothing is left to learn from.
        """
        title_ids = catalogue[schema.TITLE_ID].combine_chunks()
        held = hold_out_tokens(last_new_title(histories, title_ids), config.training, seed)
        part = histories_before(histories, title_ids, held)
        catalogue = drop_unseen_titles(catalogue, histories, title_ids, held)
        vocabulary = vocabulary or Vocabulary.build(part, catalogue, config)
        tokens = with_sample_weights(TokenSequences.of(part, vocabulary), part, vocabulary, config.training)
        if len(vocabulary.title_ids) < 2:
            raise ContractError(
                "there is nothing to learn from", where="interactions", expected="members with events on several titles"
            )
        queries = build_queries(histories, vocabulary.title_ids, held)
        known = _catalogue_rows(with_plays_of(part, histories, catalogue), vocabulary.title_ids)
        return cls(part, known, vocabulary, tokens, queries, TokenSequences.of(queries.histories, vocabulary))

    def model(self, config: FoundationConfig, parent: Checkpoint | None = None) -> FoundationModel:
        """A model that knows the titles and has learned nothing yet, or what `parent` had learned."""
        length = num_positions(config.network, self.tokens.lengths)
        model = FoundationModel(config.network, self.vocabulary, length, config.training.temperature)
        model.set_known_titles(title_features(self.known, self.vocabulary))
        if parent is not None:
            inherit_weights(model, self.vocabulary, parent)
        elif config.training.ppmi_init:
            model.init_title_ids(ppmi_title_vectors(self.tokens, len(self.known), config.network.dim))
        return model

    def id_dropout(self, bounds: tuple[float, float]) -> float:
        """The share of held-out targets that nobody had met before, within bounds."""
        cold = float((self.queries.targets < 0).mean()) if len(self.queries) else 0.0
        return min(max(cold, bounds[0]), bounds[1])

    def validate(self, model: FoundationModel) -> Ranking:
        """How a model ranks the held-out titles. Raises TrainingError where its vectors are not finite."""
        members = member_vectors(model, self.answers)
        titles = title_vectors(model, self.vocabulary, self.known)
        for vectors, kind in ((members, "members"), (titles, "titles")):
            if bad := int((~np.isfinite(vectors).all(axis=1)).sum()):
                raise TrainingError(
                    f"vectors of {bad:,} of {len(vectors):,} held-out {kind} are not finite",
                    where="training; no model was written",
                    fix="lower train.training.learning_rate",
                )
        return rank_titles(inner_product_scorer(members, titles), self.queries, len(titles))

    def baselines(self) -> dict[str, Any]:
        """The same questions answered by popularity and item-kNN."""
        ids = self.vocabulary.title_ids
        scorers = {
            "popularity": baselines.popularity(self.histories, ids),
            "item_knn": baselines.item_knn(self.histories, ids, self.queries),
        }
        return {name: rank_titles(scorer, self.queries, len(ids)).metrics() for name, scorer in scorers.items()}


def _catalogue_rows(catalogue: pa.Table, title_ids: pa.Array) -> pa.Table:
    """The catalogue's rows of titles, in their order; nothing but the id of those that it does not have."""
    title_ids = title_ids.cast(catalogue[schema.TITLE_ID].type)
    rows = catalogue.take(pc.index_in(title_ids, value_set=catalogue[schema.TITLE_ID]))
    place = catalogue.schema.get_field_index(schema.TITLE_ID)
    return rows.set_column(place, catalogue.schema.field(place), title_ids)


def hold_out_tokens(tokens: Ints, config: TrainingConfig, seed: int) -> Ints:
    """Some of the tokens, of which there is one per member."""
    share = max(config.min_validation_members, math.ceil(config.max_validation_fraction * len(tokens)))
    count = min(config.max_validation_members, share)
    return np.sort(np.random.default_rng(seed).permutation(tokens)[:count])
