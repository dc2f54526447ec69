"""The objectives of tasks: next title, next genre, next semantic id, completion, co-members."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from embeddings.foundation.loss import sampled_softmax_loss
from embeddings.foundation.metrics import TOP_K
from embeddings.foundation.model import COMPLETION_THRESHOLD, FoundationModel, multi_label_loss
from embeddings.foundation.semantic_id_generation import IdHead, Trie, beam_search
from embeddings.foundation.semantic_ids import SemanticIds
from embeddings.foundation.sequences import NO_TARGET, POST_COLUMNS, Batch, TokenSequences
from embeddings.foundation.tasks.task import (
    EvalQueries,
    Kind,
    Task,
    ranking_ndcg,
    target_states,
    title_vectors_with_grad,
)
from embeddings.foundation.train_step import candidate_columns
from embeddings.foundation.vocabulary import UNKNOWN_TITLE
from stores.errors import UsageError
from stores.schema import ACTIONS

if TYPE_CHECKING:
    from embeddings.foundation.tasks.trainer import TaskTrainStep


class NextTitle(Task):
    """What the model was made for."""

    name = "next_title"

    def loss(self, learner: "TaskTrainStep", batch: Batch) -> torch.Tensor:
        """Softmax over titles, as in the training of the model."""
        return learner.title_loss(batch)

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: EvalQueries) -> float:
        """NDCG without a cut."""
        return ranking_ndcg(model.vectors(questions.states(model)), model.known_titles()[1], questions)


class NextOnSurface(NextTitle):
    """The next title that is met in one way."""

    def __init__(self, name: str, actions: tuple[str, ...]) -> None:
        super().__init__()
        self.name, self.bits = name, sum(1 << ACTIONS.index(action) for action in actions)

    def view(self, tokens: TokenSequences) -> TokenSequences:
        """Targets that were met in this way alone."""
        after = np.append(tokens.actions[1:], 0)
        return replace(tokens, targets=np.where(after & self.bits, tokens.targets, NO_TARGET))


ACTIONS_BY_SURFACE = {"trailers": ("trailer",), "plays": ("play",), "thumbs": ("thumb_up", "rate")}


GENRES = "genres"


class NextGenre(Task):
    """Learned by the model's own head of genres, whose gradient reaches the experts."""

    name = "next_genre"

    def loss(self, learner: "TaskTrainStep", batch: Batch) -> torch.Tensor:
        """Cross-entropy with the even mix of the title's genres."""
        model = learner.model
        return multi_label_loss(
            _genre_logits(model, target_states(model, batch, learner.config.context_dropout)),
            _target_genres(model, batch),
        )

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: EvalQueries) -> float:
        """How often the likeliest genre is one of the title's, of the titles that have one."""
        best = _genre_logits(model, questions.states(model)).argmax(dim=1) + 1
        listed = model.known_codes[questions.targets(), model.heads.places[GENRES]]
        known = (listed > 0).any(dim=1)
        return float((listed == best[:, None]).any(dim=1)[known].float().mean()) if known.any() else 0.0


def _genre_logits(model: FoundationModel, states: torch.Tensor) -> torch.Tensor:
    if GENRES not in model.heads.values:
        raise UsageError("this model knows no genres", where="next_genre", expected="a catalogue with genres")
    logits: torch.Tensor = model.heads.values[GENRES](model.transformer.norm(states))
    return logits


def _target_genres(model: FoundationModel, batch: Batch) -> torch.Tensor:
    return model.known_codes[batch.targets[batch.targets > 0]][:, model.heads.places[GENRES]]


_BEAM_WIDTH = 50
_QUERIES_PER_BATCH = 32


class NextId(Task):
    """Codebooks and ids are those of the model's own titles before the training of tasks, and stay."""

    name = "next_id"
    kind: Kind = "generate"

    def __init__(self, model: FoundationModel) -> None:
        super().__init__()
        with torch.no_grad():
            vectors = model.known_titles()[1].numpy()
        self.books = SemanticIds.fit(vectors)
        self.ids = self.books.assign(vectors)
        self.head, self.trie = IdHead(self.books), Trie.of(self.ids, vectors)

    def loss(self, learner: "TaskTrainStep", batch: Batch) -> torch.Tensor:
        """Cross-entropy of the digits before the last among those that exist, each target with its weight."""
        asked, model = batch.targets > 0, learner.model
        members = model.vectors(target_states(model, batch, learner.config.context_dropout)) * model.scale
        weights = batch.weights[asked] / batch.weights[asked].sum()
        return (weights * self.head.loss(members, self.trie, batch.targets[asked] - 1)).sum()

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: EvalQueries) -> float:
        """Recall@10 of titles generated with a beam of 50, those seen before left out."""
        members = model.vectors(questions.states(model)) * model.scale
        found, _ = self.generated(members, model.known_titles()[1], self.seen(questions), TOP_K)
        return float((found == questions.targets()[:, None] - 1).any(dim=1).float().mean()) if len(found) else 0.0

    def generated(
        self, members: torch.Tensor, titles: torch.Tensor, met: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, count) rows of titles for (b, dim) members that carry the temperature, and their log-chances."""
        self.eval()
        trie = Trie.of(self.ids, titles.numpy())
        parts = zip(members.split(_QUERIES_PER_BATCH), met.split(_QUERIES_PER_BATCH), strict=True)  # type: ignore[no-untyped-call]
        found = [beam_search(self.head, trie, some, titles, count, _BEAM_WIDTH, seen) for some, seen in parts]
        return torch.cat([rows for rows, _ in found]), torch.cat([scores for _, scores in found])

    def seen(self, questions: EvalQueries) -> torch.Tensor:
        """(asked, titles): what had been seen before each question."""
        queries = questions.queries
        met = np.zeros((len(queries), len(self.ids)), bool)
        owner = np.repeat(np.arange(len(queries)), np.diff(queries.seen_starts))
        met[owner[queries.seen >= 0], queries.seen[queries.seen >= 0]] = True
        return torch.from_numpy(met[questions.has_target])


_SHARE_COLUMN = POST_COLUMNS.index("share")


class Completion(Task):
    """Learned by the model's own head, for titles of known runtime."""

    name = "completion"

    def view(self, tokens: TokenSequences) -> TokenSequences:
        """Targets of which it is known how far they were watched."""
        known = np.append(tokens.codes[1:, _SHARE_COLUMN], 0) > 0
        return replace(tokens, targets=np.where(known, tokens.targets, NO_TARGET))

    def loss(self, learner: "TaskTrainStep", batch: Batch) -> torch.Tensor:
        """Binary cross-entropy."""
        asked = batch.targets > 0
        states = target_states(learner.model, batch, learner.config.context_dropout)
        logits = _completion_logits(learner.model, states, batch.targets[asked])
        return functional.binary_cross_entropy_with_logits(logits, _is_completed(batch.tenths[asked]).float())

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: EvalQueries) -> float:
        """Area under the ROC curve; .5 where all or none were watched through."""
        logits = _completion_logits(model, questions.states(model), questions.targets())
        through = _is_completed(
            torch.from_numpy(questions.tokens.codes[questions.positions[questions.has_target] + 1, _SHARE_COLUMN])
        )
        yes, no = logits[through], logits[~through]
        if not len(yes) or not len(no):
            return 0.5
        return float((yes[:, None] > no).float().mean() + 0.5 * (yes[:, None] == no).float().mean())


def _completion_logits(model: FoundationModel, states: torch.Tensor, titles: torch.Tensor) -> torch.Tensor:
    if model.heads.watched is None:
        raise UsageError(
            "this model has no head of watching through", where="completion", expected="network.preferences"
        )
    wanted: torch.Tensor = model.heads.watched(model.transformer.norm(states))
    return (wanted * title_vectors_with_grad(model, titles)).sum(dim=1)


def _is_completed(tenths: torch.Tensor) -> torch.Tensor:
    return tenths > 10 * COMPLETION_THRESHOLD


class CoWatch(Task):
    """A contrast of titles with titles, through the tower alone."""

    name = "co_members"

    def loss(self, learner: "TaskTrainStep", batch: Batch) -> torch.Tensor:
        """Softmax of the products of a title with all others, temperature and negatives as in the model's loss."""
        model, asked = learner.model, batch.targets > 0
        before, after = batch.titles[asked], batch.targets[asked]
        drawn = learner.candidates()
        vectors = title_vectors_with_grad(model, torch.cat([before, after, drawn]))
        ours, right, others = vectors.tensor_split([len(before), 2 * len(before)])
        ours = ours * model.scale
        left_out = torch.stack([candidate_columns(drawn, after), candidate_columns(drawn, before)], dim=1)
        known = (before != UNKNOWN_TITLE).float()
        weights = known / known.sum().clamp(min=1)
        each = learner.num_known / len(drawn)
        return sampled_softmax_loss(ours, others, (ours * right).sum(dim=1, keepdim=True), left_out, weights, each)

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: EvalQueries) -> float:
        """NDCG without a cut of the answer among the titles nearest to the title before."""
        model.eval()
        before = torch.from_numpy(questions.tokens.titles[questions.positions[questions.has_target]])
        return ranking_ndcg(title_vectors_with_grad(model, before), model.known_titles()[1], questions)
