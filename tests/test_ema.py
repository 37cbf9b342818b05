"""The average of the dense parameters: what it is, and who uses it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrm_jax.checkpoint import __main__ as checkpoint
from hrm_jax.checkpoint import published, run_record, store
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.machines import sharding
from hrm_jax.optim.ema import ema
from hrm_jax.train import loop, setup, update
from hrm_jax.train.init_from import InitFrom
from tests.commands import Commands
from tests.runs import read_state, train_tiny
from tests.tiny import tiny_config
from tests.toys import METADATA, normal, toy_batch

EMA = {"ema": True, "ema_rate": 0.5}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
  """A tiny run with an average, from its first update to its last."""
  workdir = tmp_path_factory.mktemp("averaged")
  result = train_tiny(workdir, **EMA, checkpoint_interval=1)
  return workdir, result


def test_an_average_follows_the_parameters():
  params, want = {"w": normal(3, 2)}, {"w": normal(3, 2)}
  transform = ema(0.75)
  state = transform.init(params)
  for seed in range(1, 4):
    updates = {"w": normal(3, 2, seed=seed)}
    same, state = transform.update(updates, state, params)
    assert same is updates
    params = optax.apply_updates(params, updates)
    want = {"w": 0.75 * want["w"] + 0.25 * params["w"]}
  np.testing.assert_allclose(state.params["w"], want["w"], rtol=1e-6)


def test_an_update_that_is_not_finite_leaves_no_trace():
  params = {"w": normal(3)}
  transform = ema(0.9)
  state = transform.init({"w": normal(3, seed=1)})
  zeros = {"w": jnp.zeros(3)}  # What the optimiser makes of such an update.
  _, new = transform.update(zeros, state, params, is_good=jnp.array(False))
  np.testing.assert_array_equal(new.params["w"], state.params["w"])


def test_a_run_averages_the_weights_of_its_updates(averaged):
  before, after = (read_state(averaged[0], step) for step in (4, 5))
  average = of_part(before, "['average']['params']")
  for name, value in of_part(after, "['weights']['params']").items():
    want = 0.5 * average[name] + 0.5 * value
    assert np.any(want != value), name
    got = after[f"['average']['params']{name}"]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def of_part(state, prefix):
  n = len(prefix)
  return {k[n:]: v for k, v in state.items() if k.startswith(prefix)}


def test_a_run_that_goes_on_is_the_uninterrupted_one_bit_for_bit(
  averaged, tmp_path
):
  train_tiny(tmp_path, **EMA, num_steps=5, checkpoint_interval=5)
  train_tiny(tmp_path, **EMA)
  got, want = read_state(tmp_path, 10), read_state(averaged[0], 10)
  assert got.keys() == want.keys()
  assert any("average" in name for name in got)
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_without_an_average_a_checkpoint_has_none(tiny_run):
  assert not any("average" in name for name in read_state(tiny_run, 10))


def test_who_reads_a_run_gets_the_average_unless_told_otherwise(averaged):
  workdir, _ = averaged
  state = read_state(workdir, 10)
  for raw, part in ((False, "average"), (True, "weights")):
    params = load(workdir, raw_weights=raw).weights.params
    want = of_part(state, f"['{part}']['params']")
    leaves = jax.tree_util.tree_leaves_with_path(params)
    assert len(leaves) == len(want)
    for path, leaf in leaves:
      np.testing.assert_array_equal(leaf, want[jax.tree_util.keystr(path)])


def test_evaluation_and_export_are_of_the_average(
  averaged, tmp_path, monkeypatch, capsys
):
  workdir, result = averaged
  call = Commands(monkeypatch, capsys)
  own = result["evaluation"]["sets"]
  run = f"--workdir={workdir}"
  assert call(evaluate, run)["sets"] == own
  assert call(evaluate, run, "--raw-weights")["sets"] != own

  out = tmp_path / "model"
  call(checkpoint, "export", run, f"--out={out}")
  data = f"--data={workdir}/data"
  assert call(evaluate, f"--model={out}", data)["sets"] == own
  said = call.error(evaluate, f"--model={out}", "--raw-weights")
  assert said.startswith("--raw-weights: only a --workdir has other weights")
  raw = tmp_path / "raw"
  call(checkpoint, "export", run, f"--out={raw}", "--raw-weights")
  want = load(workdir, raw_weights=True).weights.params
  got = published.read(str(raw)).weights.params
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_run_that_begins_with_a_model_averages_from_there(
  exported, tiny_run, tmp_path
):
  loop.train(
    tiny_config(**EMA, num_steps=1, checkpoint_interval=1, lr=0.0),
    tmp_path,
    init_from=InitFrom(str(exported), "keep"),
  )
  state = read_state(tmp_path, 1)
  begin = of_part(read_state(tiny_run, 10), "['weights']['params']")
  for name, value in begin.items():
    got = state[f"['average']['params']{name}"]
    np.testing.assert_allclose(got, value, rtol=1e-6)


def test_trm_and_its_average_are_the_same_on_a_mesh():
  batches = [toy_batch(seed, 16) for seed in range(3)]

  def run(devices, **mesh):
    config = tiny_config(
      **EMA,
      **{
        "model.shared_level": True,
        "model.gradient_scope": "last_cycle",
        "model.q_target": "none",
        "model.mlp_t": True,
        "model.puzzle_emb_len": 2,
      },
      **mesh,
    )
    made = setup.make_setup(config, METADATA, total_steps=9, devices=devices)
    state, step = made.init(), made.jit_update(update.train_step)
    for batch in batches:
      state, *_ = step(state, sharding.put_rows(batch, made.mesh, 16))
    everywhere = sharding.replicated(made.mesh)
    for leaf in jax.tree.leaves(state.average):
      assert leaf.sharding.is_equivalent_to(everywhere, leaf.ndim)
    return jax.device_get((state.average, state.weights))

  one = run(jax.devices()[:1])
  many = run(jax.devices(), **{"mesh.data": 4, "mesh.table": 2})
  for got, want in zip(*map(jax.tree.leaves, (many, one)), strict=True):
    # The learning rate is 1e-3.
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_a_run_does_not_go_on_with_or_without_one(averaged, tiny_run):
  run = store.read_run(averaged[0], 10)
  other = store.read_run(tiny_run, 10)
  for here, there, values in (
    (run, other, "False there, True here"),
    (other, run, "True there, False here"),
  ):
    with pytest.raises(InputError, match=rf"config\.ema \({values}\); choose"):
      run_record.check_same_run(
        here, {**there, "digests": here["digests"]}, tiny_run
      )
  faster = {**run, "config": {**run["config"], "ema_rate": 0.9}}
  run_record.check_same_run(faster, run, tiny_run)
