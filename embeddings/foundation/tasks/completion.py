"""Whether the next title will be watched through."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from embeddings.foundation.heads import WATCHED_THROUGH
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.reading import states_of, titles_of
from embeddings.foundation.tasks.task import Task
from embeddings.foundation.tokens import NO_TARGET, POST, Batch, Tokens
from stores.errors import UsageError

if TYPE_CHECKING:
    from embeddings.foundation.tasks.learner import TaskLearner

_SHARE = POST.index("share")


class Completion(Task):
    """Learned by the model's own head, for titles of known runtime."""

    name = "completion"

    def view(self, tokens: Tokens) -> Tokens:
        """Targets of which it is known how far they were watched."""
        known = np.append(tokens.codes[1:, _SHARE], 0) > 0
        return replace(tokens, targets=np.where(known, tokens.targets, NO_TARGET))

    def loss(self, learner: "TaskLearner", batch: Batch) -> torch.Tensor:
        """Binary cross-entropy."""
        asked = batch.targets > 0
        states = states_of(learner.model, batch, learner.config.context_dropout)
        logits = _logits(learner.model, states, batch.targets[asked])
        return functional.binary_cross_entropy_with_logits(logits, _through(batch.tenths[asked]).float())

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: Questions) -> float:
        """Area under the ROC curve; .5 where all or none were watched through."""
        logits = _logits(model, questions.states(model), questions.targets())
        through = _through(torch.from_numpy(questions.tokens.codes[questions.at[questions.asked] + 1, _SHARE]))
        yes, no = logits[through], logits[~through]
        if not len(yes) or not len(no):
            return 0.5
        return float((yes[:, None] > no).float().mean() + 0.5 * (yes[:, None] == no).float().mean())


def _logits(model: FoundationModel, states: torch.Tensor, titles: torch.Tensor) -> torch.Tensor:
    if model.heads.watched is None:
        raise UsageError(
            "this model has no head of watching through", where="completion", expected="network.preferences"
        )
    wanted: torch.Tensor = model.heads.watched(model.transformer.norm(states))
    return (wanted * titles_of(model, titles)).sum(dim=1)


def _through(tenths: torch.Tensor) -> torch.Tensor:
    return tenths > 10 * WATCHED_THROUGH
