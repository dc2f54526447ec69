"""What a night keeps of an input that it refuses: the dead letter of a night that never got as far as its stages."""

from contextlib import suppress
from datetime import UTC, datetime

from embeddings.histories import refusals
from pipeline.config import Config
from pipeline.planning import Request, Wish, begin
from stores import dead_letter
from stores.errors import ContractError, NotFoundError
from stores.lake.contract import Lake
from stores.suppression import suppressed
from stores.workspace import Workspace

NO_MODEL = ""


def keep_refused(config: Config, workspace: Workspace, request: Request, token: int) -> None:
    """Stage a night without a model that holds the refused rows of its input, for `samespace dead-letter`.

    A lake that cannot be opened has no rows that could be listed: nothing is staged. The next night removes it.
    """
    with suppress(ContractError, NotFoundError):
        lake, as_of = Lake.open(config.lake), request.as_of or datetime.now(UTC)
        letters, _ = refusals(lake, as_of, config.histories, 1, suppressed(workspace.storage))
        release, _ = begin(workspace, Wish(config, request, NO_MODEL, lake.fingerprint()), token, recovered=False)
        for name, table in letters.items():
            dead_letter.write(release, name, table)


def with_letters(error: ContractError, workspace: Workspace) -> ContractError:
    """The error of a refused input with the command that lists its rows, where a night kept them."""
    if not any(release.storage.files(dead_letter.FOLDER) for release in workspace.staged()):
        return error
    fix = f"{error.fix}; samespace dead-letter --workspace {workspace.uri} lists the refused rows"
    return ContractError(error.what, where=error.where, expected=error.expected, fix=fix)
