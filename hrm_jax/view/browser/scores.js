// Scores of some puzzles, by the definitions of hrm_jax/evaluate.

import { lastSegment } from "./data.js";

/** Means over the puzzles with a known solution. */
export function scores(puzzles, halt) {
  const known = puzzles.filter((puzzle) => puzzle.asked > 0);
  const at = (puzzle) => lastSegment(puzzle, halt) - 1;
  return {
    count: known.length,
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
    mean(known, (p) => p.hits[s] / p.asked),
  );
}

/**
 * Puzzles in bins of a number: few values each have a bin, many share up to
 * eight of the same width.
 * Returns [{label, puzzles}].
 */
export function binned(puzzles, valueOf) {
  const known = puzzles.filter((p) => p.asked > 0 && valueOf(p) !== null);
  const values = [...new Set(known.map(valueOf))].sort((a, b) => a - b);
  const low = Math.floor(values[0]);
  const range = Math.floor(values.at(-1)) - low + 1;
  const few = values.length <= 10;
  const width = few ? 1 : Math.ceil(range / 8);
  const label = (k) =>
    width === 1
      ? String(few ? values[k] : low + k)
      : `${low + k * width}–${low + (k + 1) * width - 1}`;
  const number = few ? values.length : Math.ceil(range / width);
  const bins = Array.from({ length: number }, (_, k) => ({
    label: label(k),
    puzzles: [],
  }));
  for (const puzzle of known) {
    const value = valueOf(puzzle);
    const place = few ? values.indexOf(value) : Math.floor((value - low) / width);
    bins[place].puzzles.push(puzzle);
  }
  return bins;
}

export function mean(items, valueOf) {
  return items.reduce((sum, item) => sum + Number(valueOf(item)), 0) /
    items.length;
}
