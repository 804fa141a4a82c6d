"""Model bundles on the Hugging Face hub: pushed in one commit, pulled whole or not at all.

Of a repository the files of a bundle alone are fetched, by their names, and compared with the digests in `model.json`;
nothing that it holds is run or unpickled. What goes wrong between here and there is one sentence.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import FILES
from resnet_tl.errors import UserError, listed, printable
from resnet_tl.files import replacing, replacing_folder
from resnet_tl.sharing.info import damages

CARD = FILES[-1]
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[\w.-]*[\w-])?/[A-Za-z0-9_](?:[\w.-]*[\w-])?", re.ASCII)
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


def push(path: str | Path, repository: str, card: str, private: bool = False, revision: str | None = None) -> str:
    """Puts a bundle and its card into a repository, which is made where there is none; gives its address.

    All files come in one commit, which also removes what an earlier bundle had and this one has not. A README.md that
    the bundle has of its own is taken in place of `card`.

    Args:
        path: a run, a bundle, or a zip of one.
        repository: OWNER/NAME.
        card: the text of README.md.
        private: whether a repository that is made is one that nobody else sees; one that is there must be so.
        revision: the branch to commit to, made where there is none; default: main.

    Raises:
        UserError: the bundle is damaged, the repository's name is none, it is not as `private` as it should be, or
            the hub did not take it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

    check_repository(repository)
    bundle = Bundle.open(path)
    if damaged := damages(bundle):
        raise UserError(f"{path} is damaged and was not pushed: {'; '.join(damaged)}.")
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{repository} cannot be pushed to: HF_HUB_OFFLINE is set, which forbids all use of the hub.")
    contents = {CARD: card.encode(), **{name: bundle.read(name) for name in bundle.sizes()}}
    api = HfApi()
    with _in_words(repository, "push to"):
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise UserError(
                f"{repository} is there already and public, so that --private would hide nothing; make it private in "
                "its settings on the hub, or leave --private out."
            )
        if revision:
            api.create_branch(repository, branch=revision, exist_ok=True)
        there = set(api.list_repo_files(repository, revision=revision))
        add = [CommitOperationAdd(name, contents[name]) for name in FILES if name in contents]
        remove = [CommitOperationDelete(name) for name in FILES if name in there and name not in contents]
        message = f"Model bundle {bundle.digest[:12]}, by {bundle.made_by or 'resnet-tl'}"
        api.create_commit(repository, [*add, *remove], commit_message=message, revision=revision)
    return str(url) + (f"/tree/{revision}" if revision else "")


def pull(repository: str, folder: str | Path | None = None, revision: str | None = None) -> Bundle:
    """Fetches a bundle into a new folder, by default one of the repository's name here, and gives it.

    The files stay in the hub's own cache too, from which they are taken where `HF_HUB_OFFLINE` is set.

    Raises:
        UserError: the folder is not empty, there is no such repository or revision, it may not be read or reached, or
            holds no whole bundle. Then nothing is written but in the cache.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    check_repository(repository)
    folder = Path(folder or repository.partition("/")[2])
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty; name another folder by --output.")
    with _in_words(repository, "pull from", revision):
        # Asked for first, since without a network the download would give what is in the cache and not say so.
        newest = None if constants.HF_HUB_OFFLINE else HfApi().model_info(repository, revision=revision).sha
        snapshot = Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
        if newest not in (None, snapshot.name):
            raise ConnectionError(f"the snapshot is {snapshot.name}, not {newest}")
    where = f"{repository} on the Hugging Face hub"
    if missing := [name for name in FILES[:2] if not (snapshot / name).is_file()]:
        raise UserError(f"{where} holds no model bundle: it has no {' and no '.join(missing)}.")
    try:
        bundle = Bundle.open(snapshot)
    except UserError as error:
        raise UserError(f"{where} holds no sound model bundle: {str(error).replace(f'{snapshot}/', '')}") from None
    if damaged := damages(bundle):
        raise UserError(f"{where} holds no whole model bundle, and nothing was written: {'; '.join(damaged)}.")
    with replacing_folder(folder) as temporary:
        for name in bundle.sizes():
            with replacing(temporary / name) as part:  # a full disk in one sentence
                part.write_bytes(bundle.read(name))
    return Bundle.open(folder)


def check_repository(repository: str) -> None:
    """UserError for what cannot be the name of a repository on the hub."""
    if not _REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository or len(repository) > 96:
        raise UserError(
            f"'{repository}' is no repository of the Hugging Face hub; it must be OWNER/NAME, such as anna/seedlings, "
            "of letters, digits, '-', '_' and '.'."
        )


@contextmanager
def _in_words(repository: str, what: str, revision: str | None = None) -> Iterator[None]:
    """Turns what the hub, its client and the network say into one sentence; bars are for a terminal alone."""
    from huggingface_hub.utils import disable_progress_bars, logging

    if not sys.stderr.isatty():
        disable_progress_bars()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of each of its tries
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the hub's own errors, those of its HTTP client, of the proxy and of the disk
        raise UserError(f"Cannot {what} {repository}: {_reason(error, repository, revision)}.") from error
    finally:
        logging.set_verbosity(verbosity)


def _reason(error: Exception, repository: str, revision: str | None) -> str:
    """Why the hub did not do what was asked, as a clause."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and not all of it is in the hub's cache on this machine"
    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and isinstance(error.__cause__, Exception):
        return _reason(error.__cause__, repository, revision)
    if isinstance(error, errors.GatedRepoError):
        return f"its owner must let you in; ask for it at {constants.ENDPOINT}/{repository}, and {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision '{revision}'"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no such repository, or it is private and your token may not see it ({LOG_IN})"
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return f"there is no valid token; {LOG_IN}"
    if status == 403:
        return "your token has not the permission; take another one"
    if status == 429:
        return "the hub has had too many requests; try again in some minutes"
    if isinstance(status, int) and status >= 500:
        return f"the hub has an error of its own ({status}); try again later"
    if isinstance(status, int):
        said = getattr(error, "server_message", None) or str(error).splitlines()[0]
        return f"the hub says {status}: {listed([printable(said).strip().rstrip('.')])[:300]}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return f"the hub's cache cannot be written ({error.strerror}); set HF_HOME to another folder"
    if isinstance(error, LookupError | TypeError):
        return f"the hub has answered with something else than its client expects ({type(error).__name__}: {error})"
    if isinstance(error, ValueError):
        return listed([printable(error).strip().rstrip(".")])[:300]
    return f"the hub could not be reached ({type(error).__name__}); look at the network and try again"
