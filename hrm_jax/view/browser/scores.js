// Scores of some puzzles, by the definitions of hrm_jax/evaluate.

import { lastSegment } from "./data.js";

/** Means over the puzzles with a known solution. */
export function scores(puzzles, halt) {
  const known = puzzles.filter((puzzle) => puzzle.asked > 0);
  const at = (puzzle) => lastSegment(puzzle, halt) - 1;
  const wrong = known.filter((p) => !p.right[at(p)]);
  return {
    count: known.length,
    wrong: wrong.length,
    caught: wrong.filter((p) => !p.knew[at(p)]).length,
    exact: mean(known, (p) => p.right[at(p)]),
    // Each puzzle weighs the same, however many of its cells are asked for.
    cells: mean(known, (p) => p.hits[at(p)] / p.asked),
    segments: mean(known, (p) => at(p) + 1),
    knew: mean(known, (p) => p.knew[at(p)] === p.right[at(p)]),
    shortest: known.length && known[0].shortest
      ? mean(known, (p) => p.shortest[at(p)])
      : null,
  };
}

/** The share of right answers after segment 1, 2, ... */
export function bySegment(puzzles, halt, segments) {
  const known = puzzles.filter((puzzle) => puzzle.asked > 0);
  return Array.from({ length: segments }, (_, s) =>
    mean(known, (p) => p.right[Math.min(s, lastSegment(p, halt) - 1)]),
  );
}

/** The share of right cells after segment 1, 2, ... */
export function cellsBySegment(puzzles, segments) {
  const known = puzzles.filter((puzzle) => puzzle.asked > 0);
  return Array.from({ length: segments }, (_, s) =>
    // Of a puzzle that is thinking the later ones are not there yet.
    mean(known, (p) => (p.hits[s] ?? p.hits.at(-1)) / p.asked),
  );
}

/**
 * Puzzles in bins of a number: each of few values has a bin, of many there are
 * up to eight, with about as many puzzles each.
 * Returns [{label, puzzles}].
 */
export function binned(puzzles, valueOf) {
  const known = puzzles
    .filter((p) => p.asked > 0 && valueOf(p) != null)
    .sort((a, b) => valueOf(a) - valueOf(b));
  const few = new Set(known.map(valueOf)).size <= 10;
  const enough = few ? 1 : known.length / 8;
  const bins = [];
  for (const puzzle of known) {
    const value = valueOf(puzzle);
    const bin = bins.at(-1);
    if (!bin || (bin.puzzles.length >= enough && value !== bin.last)) {
      bins.push({ first: value, last: value, puzzles: [puzzle] });
    } else {
      bin.last = value;
      bin.puzzles.push(puzzle);
    }
  }
  return bins.map(({ first, last, puzzles }) => ({
    label: first === last ? String(first) : `${first}–${last}`,
    puzzles,
  }));
}

export function mean(items, valueOf) {
  return items.reduce((sum, item) => sum + Number(valueOf(item)), 0) /
    items.length;
}
