// A box for puzzles that the server solves.

import { grow, readReport } from "./data.js";
import { el } from "./dom.js";

const GONE = "The server does not answer; is it still running?";

/**
 * `onPuzzles` gets new puzzles after their first segment, `onGrown` after each
 * further one and after the last. The address of the page has the token.
 */
export function liveBox(report, onPuzzles, onGrown) {
  const box = el("textarea", {
    id: "live-text",
    rows: "4",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": "live-forms live-error",
  });
  const button = el("button", { type: "submit", class: "main" }, "Solve");
  const error = el("p", { class: "error", id: "live-error", role: "alert" });
  const ask = async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled")) {
      return;
    }
    error.textContent = "";
    button.setAttribute("aria-disabled", "true");
    button.textContent = "Thinking …";
    let puzzles = [];
    try {
      for await (const next of solve(box.value)) {
        if (puzzles.length) {
          puzzles.forEach((puzzle, i) => grow(puzzle, next[i]));
          onGrown(puzzles);
        } else {
          puzzles = next;
          puzzles.forEach((puzzle) => {
            puzzle.thinking = true;
          });
          onPuzzles(puzzles);
        }
      }
      if (puzzles[0]?.answers.length !== report.segments) {
        throw new Error(GONE);
      }
    } catch (problem) {
      error.textContent = problem.message;
    }
    for (const puzzle of puzzles) {
      puzzle.thinking = false;
      puzzle.haltsAfter ||= puzzle.answers.length;
    }
    if (puzzles.length) {
      onGrown(puzzles);
    }
    button.removeAttribute("aria-disabled");
    button.textContent = "Solve";
  };
  return el(
    "section",
    { class: "card live", "aria-labelledby": "live-title" },
    el("h2", { id: "live-title" }, "Your own puzzle"),
    el(
      "form",
      { on: { submit: ask } },
      el("label", { for: "live-text" }, "Type or paste a puzzle"),
      box,
      button,
    ),
    error,
    el("p", { class: "hint", id: "live-forms" }, `Read is ${report.live.forms}.`),
  );
}

/** Yields the puzzles in a text, with one segment each time. */
async function* solve(text) {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  let answer;
  try {
    answer = await fetch("/solve", {
      method: "POST",
      headers: { "Content-Type": "text/plain", "X-Token": token },
      body: text,
    });
  } catch {
    throw new Error(GONE);
  }
  if (!answer.ok) {
    throw new Error((await answer.json()).error);
  }
  for await (const line of linesOf(answer.body)) {
    const found = JSON.parse(line);
    if (found.error) {
      throw new Error(found.error);
    }
    yield (await readReport(found)).puzzles;
  }
}

/** Yields each line of a stream once it is whole. */
async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    // A connection that breaks ends the lines, too.
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) {
      return;
    }
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
}
