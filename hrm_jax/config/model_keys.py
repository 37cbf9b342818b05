"""The keys of the network and its loss: `model.*` and `loss.*`."""

from hrm_jax.config.key import (
  Key,
  flag,
  number,
  number_above_0,
  one_of,
  or_none,
  share,
  whole,
)

MODEL_KEYS = {
  # --- the network: the keys of config/arch/hrm_v1.yaml of sapientinc/HRM; two
  # of trm.yaml of SamsungSAILMontreal/TinyRecursiveModels, mlp_t and
  # puzzle_emb_len; and some of our own
  "model.H_cycles": Key(2, "Updates of z_H per segment.", whole(1)),
  "model.L_cycles": Key(2, "Updates of z_L per update of z_H.", whole(1)),
  "model.H_layers": Key(4, "Blocks of the slow module.", whole(1)),
  "model.L_layers": Key(4, "Blocks of the fast module.", whole(1)),
  "model.hidden_size": Key(512, "Width of both states.", whole(1)),
  "model.num_heads": Key(
    8, "Heads of attention; divides hidden_size.", whole(1)
  ),
  "model.expansion": Key(
    4.0,
    "The gated MLP has expansion x hidden_size x 2/3 units, rounded up to a "
    "multiple of 256.",
    number_above_0(1000),
  ),
  "model.puzzle_emb_ndim": Key(
    None,
    "Width of a puzzle's embedding. None: hidden_size; 0: no embedding.",
    or_none(whole(0)),
  ),
  "model.puzzle_emb_len": Key(
    0,
    "Positions that a puzzle's embedding takes, filled up with zeros. 0: as "
    "few as hold it.",
    whole(0, 10_000),
    later=True,
  ),
  "model.mlp_t": Key(
    False,
    "Whether an MLP over the positions stands in for attention (TRM, arXiv "
    "2510.04871); num_heads means nothing then.",
    flag(),
    later=True,
  ),
  "model.shared_level": Key(
    False,
    "Whether one module of L_layers blocks updates both states (TRM). H_layers "
    "means nothing then.",
    flag(),
    later=True,
  ),
  "model.H_only": Key(
    False,
    "Whether z_L and its module are left out: a segment is H_cycles updates of "
    "z_H, which hears the puzzle itself. An ablation of the hierarchy.",
    flag(),
    later=True,
  ),
  "model.gradient_scope": Key(
    "last_update",
    'What gradient passes through in a segment. "last_update": the last update '
    'of z_L and of z_H (HRM); "last_cycle": all of the last H cycle (TRM), '
    "where memory grows with L_cycles.",
    one_of("last_update", "last_cycle"),
    later=True,
  ),
  "model.pos_encodings": Key(
    "rope",
    "How cells know their place: rotary, learned or not at all.",
    one_of("rope", "learned", "none"),
  ),
  "model.rms_norm_eps": Key(
    1e-5, "Added to the mean square under the root.", number()
  ),
  "model.rope_theta": Key(
    10000.0, "Base of the rotary wavelengths.", number_above_0()
  ),
  "model.forward_dtype": Key(
    "bfloat16",
    "Dtype of activations; weights are float32.",
    one_of("bfloat16", "float32"),
  ),
  "model.halt_max_steps": Key(
    16, "Segments that a puzzle gets at most.", whole(1, 10_000)
  ),
  "model.halt_exploration_prob": Key(
    0.1, "Share of rows that must think for longer, in training.", share()
  ),
  "model.halt_early": Key(
    True,
    "Whether a row may halt before halt_max_steps in training. False: all "
    "puzzles get as many segments, as without ACT.",
    flag(),
    later=True,
  ),
  "model.q_target": Key(
    "bootstrap",
    '"bootstrap": q_continue learns the value of the next segment, as '
    'published; "none": it learns nothing, and a row halts when '
    "sigmoid(q_halt) > 1/2. With 2 x 2 cycles an update then costs 10/16 of "
    "the work, because it does not look one segment ahead.",
    one_of("bootstrap", "none"),
  ),
  "model.remat": Key(
    False,
    "Whether the backward pass computes the intermediates of each block again "
    "instead of keeping them. Saves memory, costs time; same results.",
    flag(),
  ),
  "model.unroll": Key(
    None,
    "Whether the blocks of a level are written out instead of run in a loop. "
    "Not with remat. None: unless remat, for it is faster.",
    or_none(flag()),
  ),
  # --- the loss
  "loss.loss_type": Key(
    "stablemax_cross_entropy",
    "The loss of a cell.",
    one_of("stablemax_cross_entropy", "softmax_cross_entropy"),
  ),
  "loss.q_weight": Key(0.5, "Weight of both halting losses.", number()),
}
