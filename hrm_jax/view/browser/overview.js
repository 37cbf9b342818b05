// The charts and scores of all puzzles that the filter lets through.

import { barChart, scatterChart, segmentChart } from "./charts.js";
import { lastSegment } from "./data.js";
import { count, el, percent } from "./dom.js";
import { binned, bySegment, cellsBySegment, mean, scores } from "./scores.js";

/** Tiles with one number each; `value` has all digits, for programs. */
export function tiles(puzzles, halt) {
  const found = scores(puzzles, halt);
  const typed = puzzles.filter((puzzle) => puzzle.typed).length;
  const given = count(puzzles.length - typed);
  const number = typed ? `${given} + ${typed} typed` : given;
  const shown = [
    ["Puzzles", number, puzzles.length, "puzzles"],
    ["Solved", percent(found.exact, 2), found.exact, "exact_accuracy"],
    ["Cells right", percent(found.cells, 2), found.cells, "accuracy"],
    ["Segments each", decimal(found.segments), found.segments, "steps"],
    ["Knew if right", percent(found.knew), found.knew, "q_halt_accuracy"],
    // Where nearly all are right, knowing it is no feat.
    [
      "Wrong ones known",
      `${count(found.caught)} of ${count(found.wrong)}`,
      found.caught,
      "caught",
    ],
  ];
  if (found.shortest !== null) {
    const share = found.shortest;
    shown.push(["Shortest path", percent(share, 2), share, "path_accuracy"]);
  }
  return el(
    "dl",
    { class: "tiles" },
    ...shown.map(([name, text, value, key]) =>
      el(
        "div",
        {},
        el("dt", {}, name),
        el("dd", {}, el("data", { value, id: `score-${key}` }, text)),
      ),
    ),
  );
}

function decimal(number) {
  return Number.isFinite(number) ? number.toFixed(2) : "—";
}

export function overview(report, puzzles, halt, measure) {
  const known = puzzles.filter((puzzle) => puzzle.asked > 0);
  if (!known.length) {
    return [el("p", { class: "notice" }, "No puzzle to draw charts of.")];
  }
  return [
    segmentChart("Right after each segment", [
      { name: "all think on", values: bySegment(known, "full", report.segments) },
      {
        name: "each halts by itself",
        values: bySegment(known, "act", report.segments),
      },
      { name: "cells right", values: cellsBySegment(known, report.segments) },
    ]),
    byMeasure(report, known, halt, measure),
    bySegmentsUsed(report, known),
    againstHalting(known, halt),
  ];
}

function byMeasure(report, known, halt, measure) {
  const { label } = report.measures[measure];
  const bars = binned(known, (p) => p.measures[measure]).map((bin) => {
    const share = mean(bin.puzzles, (p) => p.right[lastSegment(p, halt) - 1]);
    return {
      label: bin.label,
      share,
      text: percent(share),
      count: bin.puzzles.length,
    };
  });
  return barChart(`Solved, by ${label}`, label, bars);
}

function bySegmentsUsed(report, known) {
  const counts = Array(report.segments).fill(0);
  for (const puzzle of known) {
    counts[puzzle.haltsAfter - 1] += 1;
  }
  const most = Math.max(...counts);
  const bars = counts.map((number, i) => ({
    label: String(i + 1),
    share: number / most,
    text: count(number),
    count: percent(number / known.length),
  }));
  const half = most % 2 ? "" : count(most / 2);
  return barChart("Segments until it halts", "segments", bars, {
    grid: ["0", half, count(most)],
    header: ["puzzles", "share"],
  });
}

function againstHalting(known, halt) {
  const bins = Array.from({ length: 10 }, () => []);
  for (const puzzle of known) {
    const chance = puzzle.halting[lastSegment(puzzle, halt) - 1];
    if (Number.isFinite(chance)) {
      bins[Math.min(Math.floor(10 * chance), 9)].push(puzzle);
    }
  }
  const at = (puzzle) => lastSegment(puzzle, halt) - 1;
  const points = bins
    .filter((bin) => bin.length)
    .map((bin) => ({
      x: mean(bin, (p) => p.halting[at(p)]),
      y: mean(bin, (p) => p.right[at(p)]),
      count: bin.length,
    }));
  return scatterChart(
    "Halting probability against being right",
    "halting probability",
    points,
  );
}
