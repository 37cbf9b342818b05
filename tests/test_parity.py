"""Every golden case, at the tolerances of golden/README.md.

The cases are found by their manifests, and what is compared follows from
their `kind`; no shape or hyper-parameter stands here. A case of a new kind
fails until something here checks it.
"""

import functools
import math
import pathlib
import tempfile
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.checkpoint import torch_names
from hrm_jax.checkpoint.load import load
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import metrics
from hrm_jax.evaluate.evaluator import Evaluator
from hrm_jax.machines import sharding
from hrm_jax.model import halting, layers, losses
from hrm_jax.model.losses import Loss
from hrm_jax.optim import adam_atan2, ema, sparse_sign_sgd
from hrm_jax.optim.schedule import warmup_cosine
from hrm_jax.solve import inference
from hrm_jax.train import update
from hrm_jax.train.state import Optimizers, init_state, with_weights
from tests import golden_cases, torch_checkpoints
from tests.golden_cases import FLAT
from tests.toys import mesh_of


@pytest.mark.golden
@pytest.mark.parametrize(
  "case", golden_cases.every_case(), ids=lambda case: case.folder.name
)
def test_matches_the_reference(case):
  if case.kind not in CHECKS or case.family not in ("hrm", "trm", "piece"):
    pytest.fail(
      f"{case.folder}: nothing here checks kind '{case.kind}' of family "
      f"'{case.family}'"
    )
  CHECKS[case.kind](case)


@pytest.mark.golden
@pytest.mark.parametrize(
  "case",
  golden_cases.smallest("train"),
  ids=lambda case: case.folder.name,
)
def test_matches_the_reference_on_eight_devices(case):
  check_train(case, num_devices=8)


@pytest.mark.golden
@pytest.mark.parametrize(
  "case",
  [*golden_cases.smallest("train"), *golden_cases.smallest("eval")],
  ids=lambda case: case.folder.name,
)
def test_matches_the_reference_in_the_layout_of_a_tpu(case, monkeypatch):
  model = golden_cases.Case.model
  monkeypatch.setattr(
    golden_cases.Case,
    "model",
    lambda case, **arch: model(case, **arch).clone(for_tpu=True),
  )
  CHECKS[case.kind](case)


def close(got, want, what, *, atol=0.0, rtol=0.0):
  got = np.asarray(got, np.float64)
  if what.endswith(FLAT):
    got = got.reshape(-1)[::7]
  np.testing.assert_allclose(got, want, atol=atol, rtol=rtol, err_msg=what)


def equal(got, want, what):
  np.testing.assert_array_equal(np.asarray(got), want, err_msg=what)


def close_to_largest(got, want, what, share):
  """|got - want| <= share x the largest |want|."""
  close(got, want, what, atol=share * np.abs(want).max(initial=0))


class Tolerances:
  """The table of golden/README.md, for the T-th training step."""

  def __init__(self, kind, T):
    first = T == 1
    far = kind == "full_size" and not first
    self.state = 5e-5 if first else 1e-3 if far else 2e-4  # z, logits, q
    self.loss = 1e-5 if first else 2e-4 if far else 5e-5  # relative
    self.grad = 5e-5 if first else 2e-4  # share of the largest element
    # The table gives these for step 1 only; later they may grow as the
    # gradients may.
    growth = self.grad / 5e-5
    self.grad_l2 = 2e-5 * growth  # relative
    self.grad_sum = 1e-4 * growth  # absolute, and relative to the L2 norm


# ---------------------------------------------------------------- training


class Reference:
  """Our code, set up as a case's manifest says."""

  def __init__(self, case, **arch):
    manifest = case.manifest
    hyper = manifest["hyperparameters"]
    self.case = case
    self.model = case.model(**arch)
    self.rows = case.metadata.num_puzzle_identifiers
    self.batch_size = hyper["global_batch_size"]
    self.names = manifest["parameter_names"]
    self.loss = Loss(manifest["loss_type"])
    rates = {
      "warmup_steps": hyper["lr_warmup_steps"],
      "total_steps": manifest.get("total_steps_for_lr", 0),
      "min_ratio": hyper["lr_min_ratio"],
    }
    self.lr = warmup_cosine(hyper["lr"], **rates)
    self.table_lr = warmup_cosine(hyper["puzzle_emb_lr"], **rates)
    self.optimizers = Optimizers(
      adam_atan2.adam_atan2(
        self.lr,
        b1=hyper["beta1"],
        b2=hyper["beta2"],
        weight_decay=hyper["weight_decay"],
      ),
      sparse_sign_sgd.sparse_sign_sgd(
        self.table_lr, weight_decay=hyper["puzzle_emb_weight_decay"]
      ),
      self.lr,
      average=ema.ema(rate) if (rate := manifest.get("ema_rate")) else None,
    )
    self.forward_backward = jax.jit(
      functools.partial(update.forward_backward, self.model, loss=self.loss)
    )
    self.apply_gradients = jax.jit(
      functools.partial(update.apply_gradients, optimizers=self.optimizers)
    )

  def weights(self):
    return torch_names.from_reference(
      self.case.initial_state(), self.model, self.rows
    )

  def state(self):
    state = init_state(
      self.model,
      self.optimizers,
      seed=0,
      batch_size=self.batch_size,
      num_rows=self.rows,
    )
    return with_weights(state, jax.tree.map(jnp.asarray, self.weights()))

  def draws(self, recorded):
    """The recorded random numbers; without any, ones that never explore."""
    if recorded:
      return halting.Draws(recorded["rand"], recorded["randint"])
    assert self.model.halt_exploration_prob == 0
    ones = np.ones([self.batch_size])
    return halting.Draws(ones.astype(np.float32), 2 * ones.astype(np.int32))


def check_train(case, num_devices=1):
  """Updates from the first state on, on a mesh of some devices."""
  ours = Reference(case)
  # Rows that do not divide over all devices are split over some, in copies.
  parts = math.gcd(ours.batch_size, num_devices)
  mesh = mesh_of(parts, num_devices // parts)
  place = functools.partial(
    jax.device_put, device=jax.NamedSharding(mesh, jax.P("data"))
  )
  state = ours.state()
  everywhere = jax.device_put(
    state._replace(carry=None), sharding.replicated(mesh)
  )
  state = everywhere._replace(carry=place(state.carry))
  if state.weights.puzzle_table is not None:
    state = with_table(state, pad_rows(state.weights.puzzle_table, mesh))
  for T in range(1, case.manifest["n_steps"] + 1):
    golden = case.under(f"step{T}/")
    tolerances = Tolerances(case.kind, T)
    carry, gradients, segment = ours.forward_backward(
      state.weights,
      state.carry,
      place(under(golden, "batch/")),
      place(ours.draws(under(golden, "draws/"))),
    )
    assert len(carry.z_H.sharding.device_set) == num_devices
    if ours.model.q_target == "none":
      segment = with_unused_q(segment, state.weights)
    check_segment(golden, ours.names, tolerances, carry, gradients, segment)
    check_logged(golden, tolerances, segment.sums, ours, T)
    state, _, is_good = ours.apply_gradients(state, gradients)
    assert is_good
    state = state._replace(carry=carry)
    lr_sum = sum(float(ours.lr(t)) for t in range(1, T + 1))
    table = state.weights.puzzle_table
    if table is not None:
      assert not np.any(table[ours.rows :])
      table = table[: ours.rows]
    check_after(case, f"after_step{T}/", with_table(state, table), lr_sum)
  assert int(state.step) == case.manifest["n_steps"]


def with_unused_q(segment, weights):
  """TRM's code records what its second Q head says, though nothing uses it."""
  head, output = weights.params["q_head"], segment.output
  q = output.z_H[:, 0] @ head["kernel"] + head["bias"][None]
  np.testing.assert_allclose(q[:, 0], output.q_halt_logits, atol=1e-5)
  return segment._replace(output=output._replace(q_continue_logits=q[:, 1]))


def with_table(state, table):
  return state._replace(weights=state.weights._replace(puzzle_table=table))


def pad_rows(table, mesh):
  """The table split over the mesh, with rows of padding, as in a run."""
  padding = -len(table) % mesh.shape["table"]
  table = np.pad(table, ((0, padding), (0, 0)))
  return jax.device_put(table, jax.NamedSharding(mesh, jax.P("table")))


def check_forward_only(case, prefix, ours, first, last):
  """Training passes without an update in between."""
  weights, carry = ours.weights(), ours.state().carry
  for T in range(first, last + 1):
    golden = case.under(f"{prefix}step{T}/")
    batch = under(golden, "batch/") or case.under(f"step{T}/batch/")
    carry, gradients, segment = ours.forward_backward(
      weights, carry, batch, ours.draws({})
    )
    tolerances = Tolerances("train", T)
    check_segment(golden, ours.names, tolerances, carry, gradients, segment)


def under(arrays, prefix):
  n = len(prefix)
  return {k[n:]: v for k, v in arrays.items() if k.startswith(prefix)}


def named_segment(carry, gradients, segment):
  """What one pass yields, under the golden keys."""
  output, sums = segment.output, segment.sums
  named = {
    "carry/steps": carry.segments,
    "carry/halted": carry.halted,
    "carry/z_H": carry.z_H,
    "carry/z_L": carry.z_L,
    "out/logits": output.logits,
    "out/q_halt_logits": output.q_halt_logits,
    "out/q_continue_logits": output.q_continue_logits,
    "loss/total": segment.loss,
    "loss/lm": sums["lm_loss"],
    "loss/q_halt": sums["q_halt_loss"],
    "loss/q_continue": sums.get("q_continue_loss", np.zeros([])),
  }
  if segment.target_q_continue is not None:
    named["out/target_q_continue"] = segment.target_q_continue
  for key, value in carry.current.items():
    named[f"carry/current/{key}"] = value
  for key, value in sums.items():
    named[f"metrics_sum/{key}"] = value
  by_name = torch_names.params_to_reference(gradients.params)
  for key, value in by_name.items():
    named[f"grad/{key}"] = value
  if gradients.puzzle_rows is not None:
    named["puzzle_emb/local_grad"] = gradients.puzzle_rows.rows
    named["puzzle_emb/local_ids"] = gradients.puzzle_rows.ids
  return {k: np.asarray(v, _plain(v)) for k, v in named.items()}


def _plain(value):
  # NumPy knows no bfloat16.
  return np.float32 if value.dtype == jnp.bfloat16 else value.dtype


def check_segment(golden, names, tolerances, carry, gradients, segment):
  ours = named_segment(carry, gradients, segment)
  compared = 0
  for key, want in golden.items():
    group = key.split("/")[0]
    if group in ("batch", "draws", "metrics_logged", "lr"):
      continue  # Inputs, and what check_logged compares.
    compared += 1
    if key in ("grad_l2", "grad_sum"):
      continue  # Below: they belong together.
    got = ours[key.removesuffix(FLAT)]
    if want.dtype.kind in "ib":
      equal(got, want, key)
    elif group == "grad" or key == "puzzle_emb/local_grad":
      close_to_largest(got, want, key, tolerances.grad)
    elif group == "loss" or key.endswith("loss"):
      close(got, want, key, rtol=tolerances.loss)
    elif key == "metrics_sum/accuracy":
      close(got, want, key, rtol=1e-6)
    else:
      close(got, want, key, atol=tolerances.state)
  assert compared > 10
  if "grad_l2" in golden:
    check_gradient_norms(golden, names, tolerances, gradients)


def check_gradient_norms(golden, names, tolerances, gradients):
  by_name = torch_names.params_to_reference(gradients.params)
  assert sorted(names) == sorted(by_name)
  # In float64: NumPy's float32 norm of a million elements is itself off by 1e-5
  # to 3e-5, depending on the BLAS kernel that the processor gets.
  exact = {n: by_name[n].astype(np.float64) for n in names}
  l2 = np.array([np.linalg.norm(exact[n]) for n in names])
  sums = np.array([exact[n].sum() for n in names])
  close(l2, golden["grad_l2"], "grad_l2", rtol=tolerances.grad_l2)
  bound = tolerances.grad_sum * (1 + golden["grad_l2"])
  assert np.all(np.abs(sums - golden["grad_sum"]) <= bound), "grad_sum"


def check_logged(golden, tolerances, sums, ours, T):
  logged = metrics.train_means(sums, ours.batch_size)
  logged |= {"lr": float(ours.lr(T))}
  for key, want in under(golden, "metrics_logged/train/").items():
    if key == "count":  # The reference divides it by itself; we do not.
      assert want == min(logged["count"], 1)
    else:
      rtol = tolerances.loss if key.endswith("loss") else 1e-6
      close(logged[key], want, f"train/{key}", rtol=rtol)
  rtol = 1e-6
  close(ours.lr(T), golden["lr/main"], "lr/main", rtol=rtol)
  close(ours.table_lr(T), golden["lr/puzzle_emb"], "lr/puzzle_emb", rtol=rtol)


def check_after(case, prefix, state, lr_sum):
  golden = case.under(prefix)
  ours = torch_names.to_reference(state.weights)
  if "state_l2" in golden:
    names = case.manifest["state_names"]
    l2 = [np.linalg.norm(ours[n].astype(np.float64)) for n in names]
    close(l2, golden["state_l2"], "state_l2", rtol=1e-5)
  for key, want in under(golden, "state/").items():
    name = key.removesuffix(FLAT)
    if name.endswith("puzzle_emb.weights"):
      close(ours[name], want, key, atol=2e-6)
    else:
      check_weights(ours[name], want, key, lr_sum)
  moments = state.opt_state[0]
  for kind, tree in (("exp_avg/", moments.mu), ("exp_avg_sq/", moments.nu)):
    by_name = torch_names.params_to_reference(tree)
    for key, want in under(golden, kind).items():
      close_to_largest(by_name[key.removesuffix(FLAT)], want, kind + key, 1e-4)
  if state.average is not None:
    check_average(under(golden, "ema/"), state.average.params, lr_sum)


def check_average(golden, average, lr_sum):
  by_name = torch_names.params_to_reference(average)
  for key, want in golden.items():
    check_weights(by_name[key.removesuffix(FLAT)], want, key, lr_sum)


def check_weights(got, want, name, lr_sum):
  """All but a few within rounding, and those no further than they can move."""
  if name.endswith(FLAT):
    got = got.reshape(-1)[::7]
  difference = np.abs(got - want)
  assert np.mean(difference > 5e-6) <= 1e-3, name
  assert difference.max() <= 2.2 * lr_sum, name


# -------------------------------------------------------------- evaluation


def check_eval(case):
  ours = Reference(case)
  weights = ours.weights()
  totals = {}
  for entry in case.manifest["loader"]:
    golden = case.under(entry["batch"] + "/")
    sums = check_eval_batch(ours, weights, golden)
    so_far = totals.setdefault(entry["set"], dict.fromkeys(sums, 0))
    for name, value in sums.items():
      so_far[name] += np.asarray(value)
  for set_name, sums in totals.items():
    means = metrics.eval_means(sums)
    for key, want in case.under(f"evaluate/{set_name}/").items():
      close(means[key], want, f"evaluate/{key}", rtol=1e-5)
  passes = case.under("train_forward/")
  if passes:
    last = max(int(key.split("/")[0].removeprefix("step")) for key in passes)
    check_forward_only(case, "train_forward/", ours, 1, last)


def check_eval_batch(ours, weights, golden):
  batch = under(golden, "batch/")
  judge = functools.partial(
    losses.loss_and_metrics,
    target_q_continue=None,
    labels=batch["labels"],
    loss_type=ours.loss.loss_type,
    q_weight=ours.loss.q_weight,
  )
  all_rows = np.ones([len(batch["labels"])], bool)

  def observe(output):
    heads = output._asdict()
    del heads["z_H"], heads["z_L"]
    total, _ = judge(**heads, halted=all_rows, segments=all_rows.astype(int))
    return {
      "pred": jnp.argmax(output.logits, -1),
      "q_halt_logits": output.q_halt_logits,
      "q_continue_logits": output.q_continue_logits,
      "loss_total": total,
    }

  answer = jax.jit(
    lambda weights, batch: inference.solve(
      ours.model, weights, batch, halt="full", observe=observe
    )
  )(weights, batch)
  last = ours.model.halt_max_steps
  labelled = batch["labels"] >= 0
  for S in range(1, last + 1):
    step_golden = under(golden, f"step{S}/")
    seen = {k: v[S - 1] for k, v in answer.trace.items()}
    equal(
      np.asarray(seen["pred"])[labelled],
      step_golden["pred"][labelled],
      f"step{S}/pred",
    )
    close(seen["loss_total"], step_golden["loss_total"], "loss", rtol=1e-5)
    for key in ("q_halt_logits", "q_continue_logits"):
      close(seen[key], step_golden[key], f"step{S}/{key}", atol=5e-5)
    equal(all_rows & (last == S), step_golden["halted"], f"step{S}/halted")
  output = answer.output
  close(output.logits, golden["final_logits"], "final_logits", atol=5e-5)
  _, sums = judge(
    output.logits,
    output.q_halt_logits,
    output.q_continue_logits,
    halted=all_rows,
    segments=answer.segments,
  )
  for key, want in under(golden, "final_metrics_sum/").items():
    close(sums[key], want, f"final_metrics_sum/{key}", rtol=1e-5)
  return sums


# ---------------------------------------------------------------- bfloat16


def check_bf16(case):
  """No further from torch's float32 than twice torch's own bfloat16."""
  last = case.manifest["n_steps"]
  ours = Reference(case, forward_dtype="float32")
  check_forward_only(case, "fp32/", ours, 1, last)
  ours = Reference(case, forward_dtype="bfloat16")
  weights, carry = ours.weights(), ours.state().carry
  for T in range(1, last + 1):
    batch = case.under(f"step{T}/batch/")
    carry, gradients, segment = ours.forward_backward(
      weights, carry, batch, ours.draws({})
    )
    check_bf16_segment(case, T, named_segment(carry, gradients, segment))


def check_bf16_segment(case, T, ours):
  torch_bf16 = case.under(f"bf16/step{T}/")
  for key, exact in case.under(f"fp32/step{T}/").items():
    name = key.removesuffix(FLAT)
    if name.startswith(("metrics_sum", "grad_")):
      continue  # Functions of what is compared.
    got = ours[name]
    if exact.dtype.kind in "ib":
      equal(got, exact, name)
      continue
    got = got.astype(np.float64)
    got = got.reshape(-1)[::7] if key.endswith(FLAT) else got
    off, torch_off = got - exact, torch_bf16[key] - exact
    norm, largest = np.linalg.norm(torch_off), np.abs(torch_off).max()
    if exact.ndim == 0:
      # A sum's own deviation can be nearly nothing by luck: all the sums of
      # a case share the largest relative one.
      norm = largest = abs(exact) * largest_relative_loss_deviation(case)
    assert np.linalg.norm(off) <= 2 * norm, f"step{T}/{name}"
    assert np.abs(off).max() <= 4 * largest, f"step{T}/{name}"


def largest_relative_loss_deviation(case):
  measured = case.manifest["torch_bf16_minus_torch_fp32"]
  return max(m["rel_l2"] for key, m in measured.items() if "/loss/" in key)


# ------------------------------------------------------------- torch's files


def check_torch_checkpoint(case):
  """Each file becomes a run, whose evaluation is the reference's."""
  with tempfile.TemporaryDirectory() as directory:
    root = pathlib.Path(directory)
    batch = next(
      case.under(key.partition("inputs")[0])
      for key in case.arrays
      if key.endswith("/batch/inputs")
    )
    data = torch_checkpoints.write_data(root / "data", case.metadata, batch)
    runs = {}
    for file in case.manifest["files"]:
      variant = file.rpartition("/")[0]
      torch_checkpoints.import_file(
        case.folder / file, root / variant, data=data
      )
      runs[variant] = load(root / variant)
      assert runs[variant].step == int(file.rpartition("step_")[2])
    exact = {
      variant: case.under(f"{variant}/batch1/")
      | {f"batch/{key}": value for key, value in batch.items()}
      for variant, run in runs.items()
      if run.model.forward_dtype == "float32"
    }
    for variant, run in runs.items():
      golden = case.under(f"{variant}/")
      if variant in exact:
        check_eval_batch(of_run(run), run.weights, exact[variant])
        check_evaluation(run, data, golden)
      else:
        truth = next(iter(exact.values()))
        check_rounded(case, run, truth, under(golden, "batch1/"))


def of_run(run):
  """What `check_eval_batch` needs to know of a run."""
  loss = Loss(**run.config.loss)
  return types.SimpleNamespace(model=run.model, loss=loss)


def check_evaluation(run, data, golden):
  evaluator = Evaluator(
    run.model, Loss(**run.config.loss), run.mesh, halt="full"
  )
  test = EvaluationData(
    open_split(data, "test"), batch_size=run.config.global_batch_size
  )
  result = evaluator(run.weights, test, step=run.step)
  checked = 0
  for set_name, means in result["sets"].items():
    for key, want in under(golden, f"evaluate/{set_name}/").items():
      close(means[key], want, f"evaluate/{set_name}/{key}", rtol=1e-5)
      checked += 1
  assert checked == sum(key.startswith("evaluate/") for key in golden)


def check_rounded(case, run, exact, torch_rounded):
  """A bfloat16 run, as far from float32 as torch's own: see check_bf16."""
  answer = inference.solve(
    run.model,
    run.weights,
    under(exact, "batch/"),
    halt="full",
    observe=lambda output: {
      "q_halt_logits": output.q_halt_logits,
      "q_continue_logits": output.q_continue_logits,
    },
  )
  ours = {"final_logits": answer.output.logits}
  for S in range(1, run.model.halt_max_steps + 1):
    for key, value in answer.trace.items():
      ours[f"step{S}/{key}"] = value[S - 1]
  listed = case.manifest["max_abs_bf16_minus_fp32"]
  assert {f"batch1/{key}" for key in ours} == listed.keys()
  for key, got in ours.items():
    off = np.asarray(got, np.float64) - exact[key]
    torch_off = torch_rounded[key] - exact[key]
    assert np.linalg.norm(off) <= 2 * np.linalg.norm(torch_off), key
    assert np.abs(off).max() <= 4 * listed[f"batch1/{key}"], key


# ------------------------------------------------------------------ pieces


def check_adam_atan2(case):
  lr = case.arrays["lr"]
  params = dict(sorted(case.under("init/param/").items()))
  for variant in case.manifest["variants"]:
    transform = adam_atan2.adam_atan2(
      lambda t: jnp.asarray(lr, jnp.float32)[t - 1],
      b1=variant["beta1"],
      b2=variant["beta2"],
      weight_decay=variant["weight_decay"],
    )
    check_adam_variant(case, variant["name"], transform, params)


def check_adam_variant(case, name, transform, params):
  state = transform.init(params)

  @jax.jit
  def move(params, state, grads):
    updates, state = transform.update(grads, state, params)
    return jax.tree.map(jnp.add, params, updates), state

  for T in range(1, case.manifest["n_steps"] + 1):
    params, state = move(params, state, case.under(f"step{T}/grad/"))
    moments = state[0]
    golden = case.under(f"{name}/step{T}/")
    for i in params:
      where = f"{name}/step{T}/{i}"
      close(params[i], golden[f"param/{i}"], where, atol=3e-6)
      want = golden[f"exp_avg/{i}"]
      atol = 1e-7 * np.abs(want).max()
      close(moments.mu[i], want, where, rtol=2e-5, atol=atol)
      close(moments.nu[i], golden[f"exp_avg_sq/{i}"], where, rtol=1e-5)


def check_sparse_sign_sgd(case):
  for variant in case.manifest["variants"]:
    table = case.arrays["init/weights"]
    for T in range(1, case.manifest["n_steps"] + 1):
      golden = case.under(f"{variant['name']}/step{T}/")
      transform = sparse_sign_sgd.sparse_sign_sgd(
        float(golden["lr"]), weight_decay=variant["weight_decay"]
      )
      rows = sparse_sign_sgd.SparseRows(golden["ids"], golden["grad"])
      updates, _ = transform.update(rows, transform.init(table), table)
      before = table
      table = np.asarray(
        sparse_sign_sgd.apply_sparse_updates(jnp.asarray(table), updates)
      )
      close(table, golden["weights"], "weights", atol=1e-6)
      unused = np.setdiff1d(np.arange(len(table)), golden["ids"])
      equal(table[unused], before[unused], "rows not in use")


def check_lr_schedule(case):
  for setting in case.manifest["settings"]:
    schedule = warmup_cosine(
      setting["base_lr"],
      warmup_steps=setting["num_warmup_steps"],
      total_steps=setting["num_training_steps"],
      min_ratio=setting["min_ratio"],
    )
    golden = case.under(f"{setting['name']}/")
    got = jax.jit(jax.vmap(schedule))(golden["step"])
    close(got, golden["lr"], setting["name"], rtol=1e-6)


def check_losses(case):
  groups = sorted({key.split("/")[0] for key in case.arrays})
  for group in groups:
    golden = case.under(f"{group}/")
    logits, labels = golden["logits"], golden["labels"]
    for token in range(logits.shape[-1]):
      every = np.full_like(labels, token)
      got = -losses.cross_entropy(logits, every, "stablemax_cross_entropy")
      want = golden["log_stablemax_f64"][..., token]
      close(got, want, f"{group}/log_stablemax", rtol=1e-5, atol=1e-6)
    for loss_type in losses.LOSS_TYPES:
      weigh = golden["loss_weights"]

      def weighted(logits, labels=labels, loss_type=loss_type, weigh=weigh):
        loss = losses.cross_entropy(logits, labels, loss_type)
        return (loss * weigh).sum(), loss

      grad, loss = jax.grad(weighted, has_aux=True)(logits)
      for name, got in (("loss", loss), ("grad", grad)):
        want = golden[f"{loss_type}/{name}"]
        close(got, want, f"{group}/{loss_type}/{name}", rtol=1e-5, atol=1e-6)


def check_trunc_normal(case):
  for seed, want in enumerate(case.manifest["statistics"]):
    std = want["std"]
    draw = layers.truncated_normal(std)
    x = np.asarray(draw(jax.random.key(seed), want["shape"]), np.float64)
    assert abs(x.mean()) <= 5 * want["standard_error_of_mean"]
    assert abs(x.std() / std - 1) <= 0.005
    assert np.abs(x).max() <= want["clip"] * (1 + 1e-6)
    for q, value in want["quantiles"].items():
      in_tail = not 0.01 < float(q) < 0.99
      allowed = (0.02 if in_tail else 0.01) * std
      assert abs(np.quantile(x, float(q)) - value) <= allowed, q


CHECKS = {
  "train": check_train,
  "full_size": check_train,
  "eval": check_eval,
  "bf16": check_bf16,
  "torch_checkpoint": check_torch_checkpoint,
  "adam_atan2": check_adam_atan2,
  "sparse_sign_sgd": check_sparse_sign_sgd,
  "lr_schedule": check_lr_schedule,
  "losses": check_losses,
  "trunc_normal": check_trunc_normal,
}
