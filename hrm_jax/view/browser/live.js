// A box for puzzles that the server solves.

import { readReport } from "./data.js";
import { el } from "./dom.js";

/** `onSolved` gets the new puzzles; the address of the page has the token. */
export function liveBox(report, onSolved) {
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
    error.textContent = "";
    button.setAttribute("aria-disabled", "true");
    button.textContent = "Thinking …";
    try {
      onSolved(await solve(box.value));
    } catch (problem) {
      error.textContent = problem.message;
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

async function solve(text) {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  let answer;
  try {
    answer = await fetch("/solve", {
      method: "POST",
      headers: { "Content-Type": "text/plain", "X-Token": token },
      body: text,
    });
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  const found = await answer.json();
  if (!answer.ok) {
    throw new Error(found.error);
  }
  return (await readReport(found)).puzzles;
}
