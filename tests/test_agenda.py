"""What is due after which update, without training any."""

import random

import pytest

from hrm_jax.train.agenda import Agenda, Due, is_evaluated, make_agenda
from tests.tiny import tiny_config


class Iterations:
  """A schedule of iterations with so many updates each.

  Args:
    sizes: of the iterations.
    total_steps: of the learning rate's schedule; default: all of them.
  """

  def __init__(self, *sizes, total_steps=None):
    self.sizes, self.num_iterations = sizes, len(sizes)
    self.total_steps = total_steps or sum(sizes)

  def batches_in(self, iteration):
    return self.sizes[iteration]

  def locate(self, step):
    for iteration, size in enumerate(self.sizes):
      if step < size:
        return iteration, step
      step -= size
    return self.num_iterations, step


def random_agendas(number=200):
  """Of all kinds; the schedule can be shorter or longer than its batches."""
  rng = random.Random(0)
  for _ in range(number):
    sizes = [rng.randint(1, 9) for _ in range(rng.randint(1, 5))]
    total_steps = sum(sizes) + rng.choice([0, 0, 1, -1])
    schedule = Iterations(*sizes, total_steps=max(total_steps, 1))
    num_steps = rng.choice([0, rng.randint(1, sum(sizes))])
    yield Agenda(
      schedule,
      stop=min(num_steps or schedule.total_steps, schedule.total_steps),
      num_steps=num_steps,
      checkpoint_interval=rng.randint(0, 6),
      checkpoint_every_eval=rng.random() < 0.5,
      updates_per_dispatch=rng.randint(1, 5),
    )


def walk(agenda, done=0):
  """What a loop meets: (done, due) after each group."""
  return [(group[-1], agenda.after(group[-1])) for group in agenda.groups(done)]


def all_updates(agenda):
  return min(agenda.stop, sum(agenda.schedule.sizes))


def test_groups_are_all_updates_in_order_and_none_twice():
  for agenda in random_agendas():
    updates = [step for group in agenda.groups(0) for step in group]
    assert updates == list(range(1, all_updates(agenda) + 1)), agenda


def test_a_run_that_goes_on_meets_the_rest_of_the_same_updates():
  for agenda in random_agendas(50):
    for done in range(all_updates(agenda) + 1):
      updates = [step for group in agenda.groups(done) for step in group]
      assert updates == list(range(done + 1, all_updates(agenda) + 1)), agenda


def test_groups_have_two_sizes_at_most():
  for agenda in random_agendas():
    sizes = {len(group) for group in agenda.groups(0)}
    assert sizes <= {1, agenda.updates_per_dispatch}, agenda


def test_no_multiple_of_the_checkpoint_interval_is_skipped():
  for agenda in random_agendas():
    saved = {done for done, due in walk(agenda) if due.save}
    if interval := agenda.checkpoint_interval:
      assert saved >= set(range(interval, all_updates(agenda) + 1, interval))


def test_an_evaluation_stands_at_the_end_of_each_iteration_and_nowhere_else():
  for agenda in random_agendas():
    evaluated = [done for done, due in walk(agenda) if due.evaluation]
    sizes = agenda.schedule.sizes
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    assert evaluated == [
      end
      for end in ends
      if end <= all_updates(agenda) and not agenda.ends_early(end)
    ], agenda


def test_an_evaluation_is_saved_if_the_configuration_says_so():
  for agenda in random_agendas():
    for done, due in walk(agenda):
      if due.evaluation and agenda.checkpoint_every_eval:
        assert due.save, (agenda, done)


def test_updates_at_once_change_nothing_of_what_is_due():
  schedule = Iterations(7, 7)
  one, four = (
    Agenda(schedule, stop=14, checkpoint_interval=5, updates_per_dispatch=n)
    for n in (1, 4)
  )
  due = [(done, due) for done, due in walk(one) if any(due)]
  assert [(done, due) for done, due in walk(four) if any(due)] == due
  assert due == [
    (5, Due(evaluation=False, save=True)),
    (7, Due(evaluation=True, save=True)),
    (10, Due(evaluation=False, save=True)),
    (14, Due(evaluation=True, save=True)),
  ]


def test_batches_that_run_out_before_the_schedule_end_the_run():
  agenda = Agenda(Iterations(5, 5, total_steps=12), stop=12)
  assert walk(agenda)[-1] == (10, Due(evaluation=True, save=True))
  assert agenda.is_over(10)
  assert not agenda.is_over(9)


def test_a_schedule_that_ends_within_an_iteration_leaves_an_evaluation():
  agenda = Agenda(Iterations(5, 5, total_steps=9), stop=9)
  assert walk(agenda)[-1] == (9, Due(evaluation=False, save=False))
  assert agenda.is_over(9)  # So the loop makes the last one.


def make(done=0, is_ended=False, **flags):
  config = tiny_config(**flags)
  return make_agenda(config, Iterations(5, 5), done=done, is_ended=is_ended)


def test_num_steps_ends_early_only_where_the_schedule_goes_on():
  agenda = make(num_steps=5)
  assert agenda.stop == 5
  assert agenda.ends_early(5)
  assert not agenda.after(5).evaluation
  agenda = make(num_steps=10)
  assert not agenda.ends_early(10)
  assert agenda.after(10).evaluation


@pytest.mark.parametrize(
  "flags", [{"num_steps": 3, "done": 5}, {"is_ended": True, "done": 5}]
)
def test_nothing_is_left_for_a_run_beyond_its_end(flags):
  agenda = make(**flags)
  assert (agenda.stop, list(agenda.groups(5))) == (5, [])
  assert not agenda.owes_evaluation(5, {"evaluation": None})


def test_a_run_owes_what_another_one_left_out():
  agenda = make(done=5)
  assert agenda.owes_evaluation(5, {"evaluation": None})
  assert not agenda.owes_evaluation(5, {"evaluation": {"step": 5}})
  assert not agenda.owes_evaluation(4, {"evaluation": None})
  assert not agenda.owes_evaluation(0, {"evaluation": None})
  # Nobody knows how good the weights of a model are here, until it is done.
  begun = {"evaluation": None, "init_from": {"model": "a"}}
  assert agenda.owes_evaluation(0, begun)
  assert not agenda.owes_evaluation(0, {**begun, "evaluation": {"step": 0}})
  assert not agenda.owes_evaluation(1, begun)
  assert is_evaluated({"evaluation": {"step": 5}}, 5)
  assert not is_evaluated({"evaluation": {"step": 5}}, 6)
