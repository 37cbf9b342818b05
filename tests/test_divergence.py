"""What a run does when an update is not finite."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.config import ON_NONFINITE
from hrm_jax.console import InputError
from hrm_jax.train import divergence, setup
from hrm_jax.train.dashboard.curves import NoWriter
from hrm_jax.train.divergence import DivergedError, Guard, RollBackError
from hrm_jax.train.meter import Meter
from hrm_jax.train.update import Health
from tests import runs, toys

# What a guard hands on to `name_of`, which does not look at it.
STATE = object()


def health_of(*goods):
  """What `train_steps` tells of the updates of one dispatch."""
  return Health(
    jnp.array(goods), jnp.array([-1 if is_good else 1 for is_good in goods])
  )


def name_of(state, number):
  return ["carry.z_H", "loss"][number]


def watch(policy, goods, forgiven=()):
  """Lets a guard see updates 1, 2, ... and reads all it has to say."""
  guard = Guard(policy, name_of, forgiven)
  for step, is_good in enumerate(goods, 1):
    guard.watch(step, health_of(is_good), state=STATE)
  guard.flush()


def test_good_updates_pass_every_policy():
  for policy in ON_NONFINITE:
    watch(policy, [True] * 9)


def test_stop_tells_the_update_and_the_tensor():
  with pytest.raises(DivergedError, match="update 2: loss is not finite"):
    watch("stop", [True, False, True])


def test_the_bad_one_of_several_updates_of_a_dispatch_is_told():
  guard = Guard("stop", name_of)
  guard.watch(9, health_of(True, False, True), state=STATE)
  with pytest.raises(DivergedError, match="update 8: loss"):
    guard.flush()


def test_a_bad_update_is_noticed_two_updates_later():
  guard = Guard("stop", name_of)
  guard.watch(1, health_of(False), state=STATE)
  guard.watch(2, health_of(True), state=STATE)
  with pytest.raises(DivergedError):
    guard.watch(3, health_of(True), state=STATE)


@pytest.mark.parametrize("order", [("guard", "meter"), ("meter", "guard")])
def test_guard_and_meter_may_look_at_an_update_in_any_order(order):
  sums = {k: np.asarray(v)[None] for k, v in toys.METRIC_SUMS.items()}
  guard = Guard("stop", name_of)
  meter = Meter(
    NoWriter(),
    done=0,
    last_step=2,
    global_batch_size=32,
    seq_len=5,
    flops_per_step=1.0,
    peak_flops=1.0,
    log_every=1,
  )
  look = {
    "guard": lambda step: guard.watch(step, health_of(step == 1), state=STATE),
    "meter": lambda step: meter.update(step, sums),
  }
  for step in (1, 2):
    for name in order:
      look[name](step)
  meter.flush()
  assert {f"train/{name}" for name in sums} <= meter.latest.keys()
  with pytest.raises(DivergedError, match="update 2"):
    guard.flush()


def test_rollback_asks_for_it_once():
  with pytest.raises(RollBackError) as error:
    watch("rollback", [True, True, False])
  assert error.value.step == 3
  watch("rollback", [True, True, False], forgiven={3})


def test_skip_goes_on_but_not_forever():
  watch("skip", [False] * 9 + [True] + [False] * 9)
  with pytest.raises(DivergedError, match=r"update 10: .* for 10 updates"):
    watch("skip", [False] * 10)


def test_an_unknown_policy_is_refused(tmp_path):
  with pytest.raises(
    InputError, match=r"config\.on_nonfinite: expected one of"
  ):
    runs.train_tiny(tmp_path, on_nonfinite="ignore")


def poison_params(state):
  kernel = state.weights.params["lm_head"]["kernel"].at[1, 1].set(jnp.nan)
  params = {**state.weights.params, "lm_head": {"kernel": kernel}}
  return state._replace(weights=state.weights._replace(params=params))


def poison_table(state):
  table = state.weights.puzzle_table.at[0, 2].set(jnp.nan)
  return state._replace(weights=state.weights._replace(puzzle_table=table))


def poison_carry(state):
  # What the rows of a batch think with: tokens cannot be NaN.
  carry = state.carry
  carry = carry._replace(
    z_H=carry.z_H.at[3, 1, 2].set(jnp.nan),
    halted=carry.halted.at[3].set(False),
  )
  return state._replace(carry=carry)


@pytest.mark.parametrize("num_steps", [7, 8])
def test_stop_leaves_a_report_of_the_last_updates_too(
  tmp_path, inject, num_steps
):
  inject(poison_table)
  with pytest.raises(DivergedError, match=r"update 7: weights\.puzzle_"):
    runs.train_tiny(tmp_path, num_steps=num_steps)
  assert json.loads((tmp_path / "diverged.json").read_text())["step"] == 7


def test_a_report_that_cannot_be_written_hides_nothing(
  tmp_path, inject, monkeypatch
):
  lines = []
  monkeypatch.setattr(divergence.log, "error", lines.append)
  (tmp_path / "diverged.json").mkdir()
  inject(poison_table)
  with pytest.raises(DivergedError, match=r"update 7: weights\.puzzle_"):
    runs.train_tiny(tmp_path)
  assert "diverged.json: cannot be written (" in lines[0]
  assert '"step": 7' in lines[1]


@pytest.fixture
def inject(monkeypatch):
  """Arranges for a state to be poisoned so many times, before update 7."""

  def arrange(poison, times=1):
    make = setup.Setup.jit_update
    done = []

    def make_poisoned(*args, **kwargs):
      train_step = make(*args, **kwargs)

      def poisoned_step(state, batch):
        if int(state.step) == 6 and len(done) < times:
          done.append(True)
          shardings = jax.tree.map(lambda x: x.sharding, state)
          state = jax.device_put(poison(state), shardings)
        return train_step(state, batch)

      return poisoned_step

    monkeypatch.setattr(setup.Setup, "jit_update", make_poisoned)
    return done

  return arrange


@pytest.mark.parametrize(
  ("poison", "named"),
  [
    (poison_params, "weights.params.lm_head.kernel"),
    (poison_table, "weights.puzzle_table"),
    (poison_carry, "carry.z_H"),
  ],
)
def test_stop_names_what_was_hit_and_leaves_a_report(
  tmp_path, inject, poison, named
):
  inject(poison)
  with pytest.raises(DivergedError, match=f"update 7: {named} is not"):
    runs.train_tiny(tmp_path, checkpoint_interval=1)
  report = json.loads((tmp_path / "diverged.json").read_text())
  assert (report["step"], report["not_finite"]) == (7, named)
  assert report["batch"]["set"] == "all"
  assert len(report["batch"]["examples"]) == 16
  # A row takes a new example when it has halted, after 3 updates at the latest.
  steps = [batch["step"] for batch in report["batches_before"]]
  assert (report["batch"]["step"], steps) == (7, [6, 5])
  assert report["metrics"]["train/lm_loss"] > 0
  assert all_finite(tmp_path, max(runs.steps_of(tmp_path)))


@pytest.mark.parametrize("poison", [poison_table, poison_carry])
def test_rollback_goes_on_as_if_nothing_had_happened(
  tmp_path, inject, poison, tiny_run
):
  inject(poison)
  result = runs.train_tiny(
    tmp_path, on_nonfinite="rollback", checkpoint_interval=1
  )
  assert result["ended"] == "finished"
  got, want = (runs.read_state(w, 10) for w in (tmp_path, tiny_run))
  for path, value in want.items():
    np.testing.assert_array_equal(got[path], value, err_msg=path)


def test_an_update_that_fails_again_after_a_rollback_is_left_out(
  tmp_path, inject, monkeypatch
):
  lines = []
  monkeypatch.setattr(divergence.log, "warning", lines.append)
  # More often than it should be, so that a run that goes back forever ends.
  poisoned = inject(poison_carry, times=4)
  result = runs.train_tiny(
    tmp_path, on_nonfinite="rollback", checkpoint_interval=1
  )
  assert lines == [
    "warning: update 7: carry.z_H is not finite; going back to the newest "
    "checkpoint",
    "warning: update 7: carry.z_H is not finite; left out",
  ]
  assert len(poisoned) == 2
  assert result["ended"] == "finished"
  assert all_finite(tmp_path, 10)


def test_skip_goes_on_without_the_rows_that_were_hit(tmp_path, inject):
  inject(poison_carry)
  result = runs.train_tiny(tmp_path, on_nonfinite="skip")
  assert result["ended"] == "finished"
  assert all_finite(tmp_path, 10)


def all_finite(workdir, step):
  state = runs.read_state(workdir, step)
  return all(np.isfinite(v).all() for k, v in state.items() if "carry" not in k)


def test_the_exit_code_is_its_own():
  assert divergence.DivergedError.exit_code == 70
