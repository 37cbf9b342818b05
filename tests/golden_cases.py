"""Reads the golden cases: folders of a manifest and recorded arrays.

The folders lie in HRM_GOLDEN_DIR, `tests/golden` by default; its README
describes them. Shapes and hyper-parameters come from the manifests alone.
"""

import functools
import hashlib
import json
import os
import pathlib

import numpy as np

from hrm_jax.data.puzzle import DatasetMetadata, metadata_from_json
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM

OURS = pathlib.Path(__file__).parent / "golden"
DIRECTORY = pathlib.Path(os.environ.get("HRM_GOLDEN_DIR", OURS))

FLAT = "@flat7"  # Such a key holds every seventh element.


class Case:
  """One folder: its manifest and its arrays."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.manifest = json.loads((folder / "manifest.json").read_text())
    self.kind = self.manifest["kind"]
    self.family = self.manifest["family"]

  @property
  def size(self) -> int:
    """Bytes of its arrays on disk."""
    return (self.folder / "arrays.npz").stat().st_size

  @functools.cached_property
  def arrays(self) -> dict[str, np.ndarray]:
    with np.load(self.folder / "arrays.npz", allow_pickle=False) as file:
      return dict(file)

  def under(self, prefix: str) -> dict[str, np.ndarray]:
    """The arrays below a prefix, which is cut off their keys."""
    n = len(prefix)
    return {k[n:]: v for k, v in self.arrays.items() if k.startswith(prefix)}

  @functools.cached_property
  def metadata(self) -> DatasetMetadata:
    return metadata_from_json(
      self.manifest["dataset_metadata"], str(self.folder / "manifest.json")
    )

  def model(self, **overrides) -> HRM:
    arch = dict(self.manifest["arch"])
    if self.family == "trm":
      # What sets TRM apart is code there, and two of its keys have names of
      # their own here.
      arch |= {"shared_level": True, "gradient_scope": "last_cycle"}
      no_target = arch.pop("no_ACT_continue")
      arch["q_target"] = "none" if no_target else "bootstrap"
    return make_model({**arch, **overrides}, self.metadata)

  def initial_state(self) -> dict[str, np.ndarray]:
    """The starting weights, under the reference's names."""
    if "weight_generation" in self.manifest:
      return self._generated_state()
    source = self.manifest.get("initial_state_from")
    if source is None:
      return self.under("init/state/")
    return find(source["case"]).under(source["prefix"])

  def _generated_state(self) -> dict[str, np.ndarray]:
    recipe = self.manifest["weight_generation"]
    state = {}
    for tensor in recipe["tensors"]:
      name, shape = tensor["name"], tensor["shape"]
      digest = hashlib.sha256((recipe["salt"] + name).encode()).digest()
      key = int.from_bytes(digest[:8], "little")
      draw = np.random.Generator(np.random.Philox(key=key))
      value = draw.standard_normal(shape).astype(np.float32)
      state[name] = value * np.float32(tensor["std"])
      np.testing.assert_array_equal(
        state[name].reshape(-1)[:4], np.float32(tensor["first4"])
      )
      np.testing.assert_allclose(
        np.linalg.norm(state[name].astype(np.float64)), tensor["l2"], rtol=1e-6
      )
    return state


def every_case(directory: pathlib.Path = DIRECTORY) -> list[Case]:
  """All cases, by folder name."""
  folders = sorted(p.parent for p in directory.glob("*/manifest.json"))
  if not folders:
    raise FileNotFoundError(f"{directory}: no */manifest.json in it.")
  return [Case(folder) for folder in folders]


def smallest(kind: str) -> list[Case]:
  """Of each family the case of a kind with the fewest bytes.

  For what is about how a network runs and not about what it computes: every
  case would take minutes, and say the same.
  """
  found: dict[str, Case] = {}
  for case in every_case():
    held = found.get(case.family)
    if case.kind == kind and (held is None or case.size < held.size):
      found[case.family] = case
  return list(found.values())


def find(name: str) -> Case:
  """The case that calls itself `name`, which others may start from."""
  for case in every_case() + every_case(OURS):
    if name in (case.manifest.get("case"), case.folder.name):
      return case
  raise FileNotFoundError(f"{DIRECTORY}: no case '{name}' in it.")
