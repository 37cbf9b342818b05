// What Python wrote (hrm_jax/view/report.py), as puzzles.

/** Reads a report: its scalars as they are, and `puzzles`. */
export async function readReport(made) {
  const names = ["inputs", "labels", "answers", "confidence"];
  const bytes = await Promise.all(names.map((name) => unpack(made[name])));
  const wide = (data) =>
    made.token_bytes === 1
      ? new Uint8Array(data)
      : Uint16Array.from({ length: data.byteLength / 2 }, (_, i) =>
          new DataView(data).getUint16(2 * i, true),
        );
  const [inputs, labels, answers] = bytes.slice(0, 3).map(wide);
  const confidence = new Uint8Array(bytes[3]).map((k) => made.levels[k]);
  const cells = made.rows * made.columns;
  const part = (array, i) => array.subarray(i * cells, (i + 1) * cells);
  const puzzles = made.sets.map((set, i) => {
    const segments = [...Array(made.segments).keys()];
    return judged({
      name: made.names[made.name_of[i]],
      set: made.set_names[set],
      row: made.rows_in_set[i],
      typed: made.rules !== undefined,
      inputs: part(inputs, i),
      labels: part(labels, i),
      answers: segments.map((s) => part(answers, i * made.segments + s)),
      confidence: segments.map((s) => part(confidence, i * made.segments + s)),
      haltsAfter: made.halts_after[i],
      halting: made.q_halt[i].map(sigmoid),
      continuing: made.q_continue[i].map(sigmoid),
      knew: made.q_halt[i].map((q) => q !== null && q >= 0),
      measures: made.measures.map((measure) => measure.values[i] ?? null),
      shortest: made.shortest ? made.shortest[i] : null,
      rules: made.rules ? made.rules[i] : null,
    });
  });
  return { ...made, puzzles };
}

/** Packed bytes: base64 of a zlib stream. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function sigmoid(logit) {
  return logit === null ? NaN : 1 / (1 + Math.exp(-logit));
}

/**
 * Adds what follows from the answers: `asked` cells, `hits`, the asked cells
 * that are right after each segment, `right`, whether all are, `firstRight`,
 * from 1, 0 for never, whether a right answer was `left` again, and whether
 * anything tells right from wrong, `judged`.
 */
function judged(puzzle) {
  puzzle.asked = puzzle.labels.reduce((sum, label) => sum + (label > 0), 0);
  puzzle.hits = puzzle.answers.map((answer) => {
    let hits = 0;
    for (let i = 0; i < answer.length; i++) {
      hits += puzzle.labels[i] === answer[i] + 1;
    }
    return hits;
  });
  // Nobody knows the solution of most typed puzzles; rules judge the answer,
  // where there are any.
  const byRules = puzzle.asked === 0 && puzzle.rules?.[0].length > 0;
  puzzle.judged = puzzle.asked > 0 || byRules;
  puzzle.right = puzzle.hits.map((hits, s) =>
    byRules
      ? puzzle.rules[s].every((rule) => rule.kept)
      : puzzle.judged && hits === puzzle.asked,
  );
  puzzle.firstRight = puzzle.right.indexOf(true) + 1;
  puzzle.left =
    puzzle.firstRight > 0 && puzzle.right.indexOf(false, puzzle.firstRight) > 0;
  return puzzle;
}

/** Adds what became of a puzzle in its next segments. */
export function grow(puzzle, next) {
  for (const name of [
    "answers",
    "confidence",
    "halting",
    "continuing",
    "knew",
    "shortest",
    "rules",
  ]) {
    puzzle[name]?.push(...next[name]);
  }
  puzzle.haltsAfter = next.haltsAfter;
  judged(puzzle);
}

/** Whether a cell is asked for and the answer has something else there. */
export function isWrong(puzzle, answer, cell) {
  return puzzle.labels[cell] > 0 && puzzle.labels[cell] !== answer[cell] + 1;
}

/** What is on the board after so many segments; before the first, the puzzle. */
export function tokensAfter(puzzle, segment) {
  return segment === 0 ? puzzle.inputs : puzzle.answers[segment - 1];
}

/** The segment whose answer counts: the last, or where the puzzle halts. */
export function lastSegment(puzzle, halt) {
  // It may be thinking, and not have wanted to halt.
  return (halt === "act" && puzzle.haltsAfter) || puzzle.answers.length;
}
