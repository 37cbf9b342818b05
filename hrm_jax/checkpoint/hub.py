"""Models to the Hub and from it, by huggingface_hub.

Only files that a model consists of are asked for, by their names; they lie in
the Hub's cache, complete or not at all. A repository that has a name which
would lead out of its folder is refused as a whole.
"""

import contextlib
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from hrm_jax.checkpoint import model_folder
from hrm_jax.checkpoint.flags import HUB, Repository
from hrm_jax.console import InputError, log, one_line
from hrm_jax.data import hub_cache
from hrm_jax.machines import cluster

# The reference's repositories hold a torch file and its configuration.
TORCH_NAMES = ("checkpoint", "all_config.yaml")
_NAMES = (*model_folder.NAMES, *TORCH_NAMES)

# What helps without a network: the second, whoever takes a folder instead.
_AGAIN = "try again with a network"
_BY_HAND = f"{_AGAIN}, or copy the folder here, and give that as the model"

_SECONDS = 10  # Nobody waits for longer to be told that there is no network.
_COMMIT = re.compile("[0-9a-f]{40}")


class Snapshot(NamedTuple):
  """The files of a repository at one commit.

  Attributes:
    path: the folder in the Hub's cache.
    name: hf://ORG/NAME@COMMIT.
  """

  path: pathlib.Path
  name: str


def fetch(repository: Repository, *, offline: str = _BY_HAND) -> Snapshot:
  """The model of a repository, from the network or the Hub's cache.

  All processes get the same commit, which process 0 finds out.

  Args:
    repository: of the Hub.
    offline: what helps where there is no network, for the message.

  Raises:
    InputError: it is not there, or can be had neither way.
  """
  name, revision = repository.name, repository.revision
  snapshot = None
  if cluster.is_first():
    snapshot = _fetch(name, revision, offline)
  commit = cluster.text_from_first(snapshot.path.name if snapshot else "")
  return snapshot or _fetch(name, commit, offline)


def _fetch(name: str, revision: str | None, offline: str) -> Snapshot:
  with _explained(name, revision, offline):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(**where: Any) -> Snapshot:
      path = pathlib.Path(
        huggingface_hub.snapshot_download(
          name, revision=revision, allow_patterns=list(_NAMES), **where
        )
      )
      return Snapshot(path, f"{HUB}{name}@{path.name}")

    # A commit never changes, so the network can add nothing to a whole one.
    if revision and _COMMIT.fullmatch(revision):
      with contextlib.suppress(LocalEntryNotFoundError):
        snapshot = download(local_files_only=True)
        if _is_whole(snapshot.path):
          return snapshot
    try:
      _check_names(name, revision)
    except Exception as error:
      if not _is_silence(error):
        raise
      snapshot = download(local_files_only=True)
      # Older clients return what there is.
      if not _is_whole(snapshot.path):
        raise LocalEntryNotFoundError("only a part of it is there") from None
      log.warning(
        f"warning: {HUB}{name}: the Hub is not asked, or does not answer "
        f"({type(error).__name__}); taken from its cache: {snapshot.name}"
      )
      return snapshot
    return download()


def _is_whole(path: pathlib.Path) -> bool:
  ours = (model_folder.CONFIG, model_folder.WEIGHTS)
  return any(
    all((path / name).exists() for name in names)
    for names in (ours, TORCH_NAMES)
  )


def _check_names(name: str, revision: str | None) -> None:
  """Refuses a repository with a name that leads out of a folder."""
  import huggingface_hub

  info = huggingface_hub.HfApi().model_info(
    name, revision=revision, timeout=_SECONDS
  )
  names = [file.rfilename for file in info.siblings or ()]
  for each in names:
    parts = re.split(r"[/\\]", each)
    if ".." in parts or "" in parts or ":" in parts[0] or "\0" in each:
      raise InputError(
        f"{HUB}{name}: it has a file called '{each:.80}', which would lead out "
        "of its folder; nothing of it is fetched."
      )
  wanted = (model_folder.CONFIG, TORCH_NAMES[0])
  if not set(names) & set(wanted):
    raise InputError(
      f"{HUB}{name}: expected a model, with {' or '.join(wanted)}, got "
      f"{', '.join(sorted(names)[:3]) or 'nothing'}."
    )


def pull(repository: Repository, out: pathlib.Path) -> dict[str, Any]:
  """Copies the model of a repository into a folder, which appears whole.

  Returns:
    `model`, with the commit; `folder`; `files`.

  Raises:
    InputError: as `fetch` does; the files are not a model that was exported
      here; or the folder cannot be written.
  """
  with model_folder.being_written(out) as folder:
    snapshot = fetch(repository, offline=_AGAIN)
    names = [n for n in model_folder.NAMES if (snapshot.path / n).exists()]
    for name in names:
      # The content: what lies in the cache is a link to it.
      shutil.copyfile(model_folder.checked(snapshot.path, name), folder / name)
    model_folder.check_files(model_folder.describe(folder))
  return {"model": snapshot.name, "folder": str(out), "files": names}


def push(
  folder: pathlib.Path,
  repository: Repository,
  *,
  public: bool = False,
) -> dict[str, Any]:
  """Uploads a folder as one commit, after it was checked.

  Args:
    folder: as `export` writes it.
    repository: is made if it is not there; a revision is a branch.
    public: whether everybody may see a repository that is made.

  Returns:
    `model`: hf://ORG/NAME@COMMIT; `url` of the commit; `files`.

  Raises:
    InputError: the folder is no model, or the Hub does not take it.
  """
  if not folder.is_dir():
    raise InputError(f"--model={folder}: no such folder.")
  model_folder.check_files(model_folder.describe(folder))
  names = [
    name
    for name in model_folder.NAMES
    if (folder / name).exists() and model_folder.checked(folder, name)
  ]
  name, revision = repository.name, repository.revision
  with _explained(name, revision, _AGAIN):
    import huggingface_hub

    api = huggingface_hub.HfApi()
    api.create_repo(name, private=not public, exist_ok=True)
    if revision is not None:
      api.create_branch(name, branch=revision, exist_ok=True)
    commit = api.upload_folder(
      repo_id=name,
      folder_path=folder,
      revision=revision,
      allow_patterns=names,
      commit_message="Upload a model of hrm_jax",
    )
  return {
    "model": f"{HUB}{name}@{commit.oid}",
    "url": str(commit.commit_url),
    "files": names,
  }


@contextlib.contextmanager
def _explained(name: str, revision: str | None, offline: str) -> Iterator[None]:
  """Turns what the client raises into one line that names the repository."""
  at = f"@{revision}" if revision else ""
  try:
    import huggingface_hub

    # Its retries would fill the terminal before the one line that helps.
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
      huggingface_hub.utils.disable_progress_bars()
    hub_cache.check_has_a_place()
    yield
  except InputError:
    raise
  except Exception as error:  # Its own, its HTTP library's, the system's.
    raise InputError(
      f"{HUB}{name}{at}: {_what(error)} ({one_line(error)}); "
      f"{_way_out(error, offline)}."
    ) from error


def _is_silence(error: BaseException) -> bool:
  """Whether nobody was reached, not that somebody refused.

  The client has changed its HTTP library before: errors of the transport are
  known by the name of their class.
  """
  names = {each.__name__ for each in type(error).__mro__}
  return isinstance(error, ConnectionError | TimeoutError) or (
    "TransportError" in names
  )


def _what(error: Exception) -> str:
  from huggingface_hub import errors

  status = getattr(getattr(error, "response", None), "status_code", None)
  if isinstance(error, errors.LocalEntryNotFoundError):
    return "the Hub cannot be reached, and its cache has no whole copy"
  if isinstance(error, errors.RevisionNotFoundError):
    return "no such revision"
  if status in (401, 403, 404):
    return "no such repository, or it is not for you"
  if _is_silence(error):
    return "the Hub does not answer, or broke off"
  return "it does not work"


def _way_out(error: Exception, offline: str) -> str:
  from huggingface_hub import errors

  if isinstance(error, errors.LocalEntryNotFoundError) or _is_silence(error):
    return offline
  if getattr(error, "response", None) is not None:
    return "look at its name and @REVISION; `hf auth login` says who you are"
  # The client's errors of the network name no file.
  if isinstance(error, OSError) and error.filename:
    return "set HOME, or HF_HOME, to a directory that can be written"
  return "the command can be repeated: what is there is not fetched twice"
