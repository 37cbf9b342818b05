"""The Hierarchical Reasoning Model: z_H, z_L, and one segment of thought.

A slow module, `H_level`, and a fast one, `L_level`, take turns on two states
of the same shape. A segment is `H_cycles` rounds of `L_cycles` updates of z_L
followed by one of z_H. A puzzle gets several segments: the states go on from
one to the next, the heads read an answer after each, and the Q values say
whether another one is worth its time (see `halting`).

The cycles run towards a fixed point. At a fixed point the gradient of the whole
recurrence can be approximated by that of its last update alone (the paper's
one-step gradient, from deep equilibrium models), so only the very last update
of z_L and of z_H is differentiated: memory does not grow with the cycles, and
nothing is propagated back through time. `gradient_scope` says more.

Shape letters: B rows, G grid cells, P puzzle-embedding slots, S = P + G
positions, D hidden size, V vocabulary.

Source: arXiv 2506.21734, and its code, models/hrm/hrm_act_v1.py.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hrm_jax.model.layers import Block, Embedding, Linear, truncated_normal
from hrm_jax.model.level import Level, Update


class SegmentOutput(NamedTuple):
  """What one segment makes of its puzzles.

  Attributes:
    z_H: [B, S, D] slow state, compute dtype.
    z_L: [B, S, D] fast state, compute dtype.
    logits: [B, G, V] scores of the answer's tokens, compute dtype.
    q_halt_logits: [B] float32, value of stopping here, before the sigmoid.
    q_continue_logits: [B] float32, value of thinking on.
  """

  z_H: jax.Array
  z_L: jax.Array
  logits: jax.Array
  q_halt_logits: jax.Array
  q_continue_logits: jax.Array


class HRM(nn.Module):
  """The network.

  Most fields are keys of `config/arch/hrm_v1.yaml` of sapientinc/HRM, under the
  same names. Five more make it the network of TRM (arXiv 2510.04871):
  `shared_level`, `gradient_scope`, `q_target`, `mlp_t` and `puzzle_emb_len`;
  the last two are named as in its code. `attention` makes no other network and
  is a key beside `config.model`. A run takes its defaults from
  `hrm_jax.config`; those below are the same, which a test holds.

  Attributes:
    vocab_size: V, from the data set.
    seq_len: G, from the data set.
    H_cycles: updates of z_H per segment.
    L_cycles: updates of z_L per update of z_H.
    H_layers: blocks of the slow module.
    L_layers: blocks of the fast module.
    hidden_size: D.
    num_heads: attention heads; divides D.
    expansion: MLP width over D, before the 2/3 of a gated MLP.
    puzzle_emb_ndim: width of a row of the puzzle table; 0: no table; None: D.
    puzzle_emb_len: P, leading positions that such a row takes; 0: as few as
      hold it, ceil(width / D). Without a table there are none.
    mlp_t: whether an MLP over the positions replaces attention, see
      `layers.Block`.
    pos_encodings: "rope", "learned" or "none".
    rms_norm_eps: added to the mean square in the norms.
    rope_theta: base of the rotary positions.
    forward_dtype: compute dtype, "bfloat16" or "float32".
    halt_max_steps: segments a puzzle gets at most (used by `halting`).
    halt_exploration_prob: how often a row must think on (used by `halting`).
    halt_early: whether a row may halt before `halt_max_steps` in training (used
      by `halting`).
    q_target: what `q_continue_logits` learn. "bootstrap": the value of the
      next segment. "none": nothing, they are 0, so that a row halts when
      sigmoid(q_halt) > 1/2; training needs no second segment then (TRM, arXiv
      2510.04871).
    remat: whether the backward pass computes the intermediates of each block
      again instead of keeping them: less memory, an eighth more work.
    unroll: whether the blocks of a level, and the updates of z_L with gradient,
      are written out one after the other: the program grows with them.
    attention: "xla", "cudnn" or "splash", see `layers.mix_values`.
    for_tpu: whether the blocks are laid out for a TPU, see `layers.Block`; with
      `unroll` the cycles without gradient are written out, too.
    gradient_scope: which of a segment's updates gradient passes through.
      "last_update": the last one of z_L and of z_H (HRM). "last_cycle": all of
      the last H cycle, its L_cycles updates of z_L and the one of z_H (TRM);
      memory grows with L_cycles.
    shared_level: whether one module, L_level, plays both roles (TRM): it hears
      z_H + x when it updates z_L, and z_L when it updates z_H. H_layers means
      nothing then.
    H_only: whether z_L is left out, to see what the hierarchy is worth: z_H
      hears x itself, and a segment is H_cycles updates of it.
  """

  vocab_size: int
  seq_len: int
  H_cycles: int = 2
  L_cycles: int = 2
  H_layers: int = 4
  L_layers: int = 4
  hidden_size: int = 512
  num_heads: int = 8
  expansion: float = 4.0
  puzzle_emb_ndim: int | None = None
  puzzle_emb_len: int = 0
  mlp_t: bool = False
  pos_encodings: str = "rope"
  rms_norm_eps: float = 1e-5
  rope_theta: float = 10000.0
  forward_dtype: str = "bfloat16"
  halt_max_steps: int = 16
  halt_exploration_prob: float = 0.1
  halt_early: bool = True
  q_target: str = "bootstrap"
  remat: bool = False
  unroll: bool = False
  attention: str = "xla"
  for_tpu: bool = False
  gradient_scope: str = "last_update"
  shared_level: bool = False
  H_only: bool = False

  @property
  def L_updates_with_gradient(self) -> int:
    """How many of a segment's last updates of z_L gradient passes through."""
    if self.H_only:
      return 0
    return {"last_update": 1, "last_cycle": self.L_cycles}[self.gradient_scope]

  @property
  def L_updates_per_cycle(self) -> int:
    """How many updates of z_L there are to one of z_H."""
    return 0 if self.H_only else self.L_cycles

  @property
  def num_H_blocks(self) -> int:
    """How many blocks an update of z_H runs."""
    return self.L_layers if self.shared_level else self.H_layers

  @property
  def needs_next_segment(self) -> bool:
    """Whether an update looks one segment ahead, for `q_continue_logits`."""
    return self.halt_max_steps > 1 and self.q_target == "bootstrap"

  @property
  def puzzle_width(self) -> int:
    """Width of a row of the puzzle table; 0 when there is no table."""
    if self.puzzle_emb_ndim is None:
      return self.hidden_size
    return self.puzzle_emb_ndim

  @property
  def num_slots(self) -> int:
    """P, positions that the puzzle embedding takes before the grid."""
    if not self.puzzle_width:
      return 0
    return self.puzzle_emb_len or -(-self.puzzle_width // self.hidden_size)

  @property
  def num_positions(self) -> int:
    """S = P + G."""
    return self.num_slots + self.seq_len

  @property
  def dtype(self) -> jnp.dtype:
    """The compute dtype."""
    return jnp.dtype(self.forward_dtype)

  def setup(self) -> None:
    D = self.hidden_size
    self.embed_tokens = Embedding(self.vocab_size, D, self.dtype)
    if self.pos_encodings == "learned":
      self.embed_pos = Embedding(self.num_positions, D, self.dtype)
    make_block = functools.partial(
      Block,
      num_heads=self.num_heads,
      expansion=self.expansion,
      rope_theta=self.rope_theta if self.pos_encodings == "rope" else None,
      rms_norm_eps=self.rms_norm_eps,
      attention=self.attention,
      for_tpu=self.for_tpu,
      mlp_t=self.mlp_t,
    )
    make_level = functools.partial(
      Level, make_block=make_block, remat=self.remat, unroll=self.unroll
    )
    if not self.shared_level:
      self.H_level = make_level(self.H_layers)
    if not self.H_only:
      self.L_level = make_level(self.L_layers)
    self.lm_head = Linear(self.vocab_size)
    # Zero weights and bias -5: at first both Q values are sigmoid(-5), about
    # 0.007, for every puzzle, and so is the bootstrapped target that
    # q_continue is trained towards. A fresh network is right about nothing, so
    # this is what q_halt should say; and as the two are equal no row halts
    # early.
    zeros = nn.initializers.zeros
    self.q_head = Linear(2, use_bias=True, kernel_init=zeros, bias_value=-5.0)
    # What z_H and z_L of every position start from at a new puzzle. Fixed, not
    # trained: they live outside "params", so that neither the optimiser nor a
    # mask has to know of them.
    self.H_init = self.variable("initial_states", "H_init", self._draw_state)
    self.L_init = self.variable("initial_states", "L_init", self._draw_state)

  def _draw_state(self) -> jax.Array:
    draw = truncated_normal(1.0)
    key = self.make_rng("params")
    return draw(key, (self.hidden_size,)).astype(self.dtype)

  def initial_states(self) -> tuple[jax.Array, jax.Array]:
    """The state every puzzle starts from: z_H and z_L, each [1, 1, D]."""
    H_init, L_init = self.H_init.value, self.L_init.value
    return H_init[None, None, :], L_init[None, None, :]

  def embed_inputs(
    self, inputs: jax.Array, puzzle_rows: jax.Array
  ) -> jax.Array:
    """The network's input x.

    The puzzle embedding stands before the grid like a prompt: which task this
    is (for ARC, the transformation to apply), learned per puzzle identifier.

    Args:
      inputs: [B, G] int32 token ids.
      puzzle_rows: [B, puzzle_width] float32, each row's puzzle embedding.

    Returns:
      [B, S, D] in the compute dtype: P puzzle slots, then G cells.
    """
    B = inputs.shape[0]
    x = self.embed_tokens(inputs)  # [B, G, D]
    if self.num_slots:
      slots = puzzle_rows.astype(self.dtype)  # [B, puzzle_width]
      padding = self.num_slots * self.hidden_size - self.puzzle_width
      slots = jnp.pad(slots, ((0, 0), (0, padding)))  # [B, P * D]
      slots = slots.reshape(B, self.num_slots, self.hidden_size)  # [B, P, D]
      x = jnp.concatenate([slots, x], axis=1)  # [B, S, D]
    if self.pos_encodings == "learned":
      x += self.embed_pos.table()[None]  # [1, S, D]
      # 1/sqrt(2) keeps the variance of the sum of two embeddings. The digits
      # are those of the reference's literal, so that both round alike.
      x = _scale(x, 0.707106781)
    # Embeddings start with deviation 1/sqrt(D), the states that x is added to
    # with deviation 1.
    return _scale(x, self.hidden_size**0.5)

  def __call__(
    self,
    z_H: jax.Array,
    z_L: jax.Array,
    inputs: jax.Array,
    puzzle_rows: jax.Array,
  ) -> SegmentOutput:
    """Thinks for one segment.

    Gradient reaches the parameters and `puzzle_rows` through the updates that
    `gradient_scope` names; none reaches the incoming states, so that each
    segment is trained for itself (deep supervision) and an update never has to
    keep the activations of the segments before.

    Args:
      z_H: [B, S, D] slow state, compute dtype.
      z_L: [B, S, D] fast state, compute dtype.
      inputs: [B, G] int32 token ids.
      puzzle_rows: [B, puzzle_width] float32.

    Returns:
      The new states and what the heads read from them.
    """
    with self._matmul_precision():
      z_H, z_L = self._think(z_H, z_L, inputs, puzzle_rows)
      q_halt, q_continue = self._read_q(z_H)
      return SegmentOutput(
        z_H=z_H,
        z_L=z_L,
        logits=self.lm_head(z_H[:, self.num_slots :]),  # [B, G, V]
        q_halt_logits=q_halt,
        q_continue_logits=q_continue,
      )

  def q_logits(
    self,
    z_H: jax.Array,
    z_L: jax.Array,
    inputs: jax.Array,
    puzzle_rows: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """q_halt_logits and q_continue_logits alone of what `__call__` returns.

    Less work: they are read from one position, and the last block computes no
    other.
    """
    with self._matmul_precision():
      z_H, _ = self._think(z_H, z_L, inputs, puzzle_rows, num_outputs=1)
      return self._read_q(z_H)

  def _matmul_precision(self) -> contextlib.AbstractContextManager[None]:
    # A float32 model means float32 products, on GPU and TPU too.
    is_exact = self.dtype == jnp.float32
    return jax.default_matmul_precision("highest" if is_exact else "default")

  def _think(
    self,
    z_H: jax.Array,
    z_L: jax.Array,
    inputs: jax.Array,
    puzzle_rows: jax.Array,
    num_outputs: int | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """All updates of a segment; z_H at its first `num_outputs` positions."""
    x = self.embed_inputs(inputs, puzzle_rows)  # [B, S, D]
    # The segment before was trained in its own update.
    z_H, z_L = lax.stop_gradient((z_H, z_L))
    if self.H_only:
      return self._think_with_H_alone(z_H, x, num_outputs), z_L
    L_level = self.L_level
    H_level = L_level if self.shared_level else self.H_level
    if self.is_initializing():
      # One update of each draws all weights; the pure functions below need
      # them drawn.
      z_L = L_level(z_L, z_H + x)
      return H_level(z_H, z_L), z_L
    with_gradient = self.L_updates_with_gradient
    z_H, z_L = _cycle_without_gradient(
      H_level.as_function(self.dtype, frozen=True),
      L_level.as_function(self.dtype, frozen=True),
      z_H,
      z_L,
      lax.stop_gradient(x),
      H_updates=self.H_cycles - 1,
      L_cycles=self.L_cycles,
      last_L_updates=self.L_cycles - with_gradient,
      # XLA joins nothing over the ends of a loop: what a pass begins with and
      # what the one before ends with would be two more passes over a state.
      unroll=self.for_tpu and self.unroll,
    )
    f_H = H_level.as_function(self.dtype, num_outputs=num_outputs)
    f_L = L_level.as_function(self.dtype)
    if with_gradient > 1:
      # A loop would keep its intermediates in stacks: on a TPU half as slow
      # again, by the compiler's word, and two and a half times the memory.
      z_L = _update_z_L(
        f_L, z_H, z_L, x, times=with_gradient - 1, unroll=self.unroll
      )
    z_L = f_L(z_L, z_H + x)
    return f_H(z_H, z_L), z_L

  def _think_with_H_alone(
    self, z_H: jax.Array, x: jax.Array, num_outputs: int | None
  ) -> jax.Array:
    """The updates of a segment of `H_only`; gradient through the last one."""
    if self.is_initializing():
      return self.H_level(z_H, x)
    frozen = self.H_level.as_function(self.dtype, frozen=True)
    fixed_x = lax.stop_gradient(x)
    z_H = lax.fori_loop(
      0,
      self.H_cycles - 1,
      lambda _, z_H: frozen(z_H, fixed_x),
      z_H,
      unroll=(self.for_tpu and self.unroll) or None,
    )
    f_H = self.H_level.as_function(self.dtype, num_outputs=num_outputs)
    return f_H(z_H, x)

  def _read_q(self, z_H: jax.Array) -> tuple[jax.Array, jax.Array]:
    # The first position stands for the whole puzzle, as a [CLS] token does: it
    # is the first slot of the puzzle embedding, or the first cell without one.
    q_logits = self.q_head(z_H[:, 0]).astype(jnp.float32)  # [B, 2]
    q_halt, q_continue = q_logits[:, 0], q_logits[:, 1]  # [B] each
    if self.q_target == "none":
      q_continue = jnp.zeros_like(q_continue)
    return q_halt, q_continue


def _scale(x: jax.Array, factor: float) -> jax.Array:
  # A Python factor would itself be rounded to x's dtype; the reference
  # multiplies by the exact number and rounds the product.
  return (x.astype(jnp.float32) * factor).astype(x.dtype)


def _cycle_without_gradient(
  f_H: Update,
  f_L: Update,
  z_H: jax.Array,
  z_L: jax.Array,
  x: jax.Array,
  *,
  H_updates: int,
  L_cycles: int,
  last_L_updates: int,
  unroll: bool,
) -> tuple[jax.Array, jax.Array]:
  """The updates of a segment ahead of those with gradient.

  They are `H_updates` whole rounds, then `last_L_updates` updates of z_L. In
  `lax` loops, unless `unroll`: the compiled program does not grow with the
  cycles.
  """

  def update_both(_, states):
    z_H, z_L = states
    z_L = _update_z_L(f_L, z_H, z_L, x, times=L_cycles, unroll=unroll)
    return f_H(z_H, z_L), z_L

  states = (z_H, z_L)
  z_H, z_L = lax.fori_loop(
    0, H_updates, update_both, states, unroll=unroll or None
  )
  z_L = _update_z_L(f_L, z_H, z_L, x, times=last_L_updates, unroll=unroll)
  return z_H, z_L


def _update_z_L(
  f_L: Update,
  z_H: jax.Array,
  z_L: jax.Array,
  x: jax.Array,
  *,
  times: int,
  unroll: bool = False,
) -> jax.Array:
  """Several updates of z_L while z_H stands still."""
  return lax.fori_loop(
    0, times, lambda _, z_L: f_L(z_L, z_H + x), z_L, unroll=unroll or None
  )


def count_parameters(params: Any) -> int:
  """Number of trained dense weights; the puzzle table is not among them."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
