"""Sending a model directory to a model hub."""

from __future__ import annotations

import os
from pathlib import Path

from bothways.errors import InputError
from bothways.formats.hub import FILES, explained, named, refuse_token_that_cannot_be_sent
from bothways.formats.reading import load_model

PICTURES = ["*.svg"]
"""What model cards show."""
CARD = "README.md"
MESSAGE = "Add a model made with bothways"


def push(
    directory: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = MESSAGE,
) -> str:
    """Send a model directory to the Hugging Face hub, as one commit → its address.

    The repository is made if there is none, `private` or as the hub usually does; so is the branch `revision`. Only
    what a model needs is sent: not the report, the metrics or training rows that lie beside it, which quote texts, nor
    what lies in folders. Files there that would be read beside these, such as weights of before, are deleted; all
    others stay.
    Raises InputError if the directory cannot be read as a model, or with what the hub has against it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.errors import HFValidationError, HTTPError

    load_model(directory)  # so that nothing broken is sent
    folder = Path(directory)
    files = {
        file.relative_to(folder).as_posix(): file
        for pattern in (*FILES, *PICTURES)
        for file in folder.glob(pattern)
        if file.is_file()
    }
    refuse_token_that_cannot_be_sent(repo_id)
    api = HfApi(library_name="bothways")
    try:
        if get_token() is None:
            raise InputError(f"{repo_id}: there is no token for the hub; run hf auth login, or set HF_TOKEN.")
        repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
        if private and not api.model_info(repo_id).private:
            raise InputError(f"{repo_id} is public, so nothing was sent; make it private on its page first.")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        old = named(api.list_repo_files(repo_id, revision=revision), [name for name in FILES if name != CARD])
        done = api.create_commit(
            repo_id,
            [
                *(CommitOperationDelete(name) for name in old if name not in files),
                *(CommitOperationAdd(name, file) for name, file in files.items()),
            ],
            commit_message=message,
            revision=revision,
        )
    except InputError:
        raise
    except HFValidationError:
        raise InputError(f"{repo_id!r} is no name for the hub; name one such as my-name/my-model.") from None
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        reason, advice = explained(error)
        raise InputError(f"{repo_id}: the hub did not take the model ({reason}); {advice}.") from None
    return str(done.commit_url)
