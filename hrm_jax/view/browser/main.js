// The page: what belongs where, and the keys.

import { readReport } from "./data.js";
import { count, el, select } from "./dom.js";
import { Filters } from "./filters.js";
import { PuzzleList } from "./list.js";
import { liveBox } from "./live.js";
import { overview, tiles } from "./overview.js";
import { Player } from "./player.js";

const KEYS = [
  ["← →", "one segment back, forward"],
  ["Home End", "before the first segment, after the last"],
  ["Space", "play, pause"],
  ["↑ ↓", "the puzzle before, the next"],
  ["/", "to the filter"],
  ["?", "these keys"],
];

const KINDS = {
  sudoku: "Sudoku",
  maze: "Mazes",
  arc: "ARC",
  grid: "Grids",
};

async function start() {
  const text = document.getElementById("data").textContent;
  const report = await readReport(JSON.parse(text));
  const state = { halt: report.about.halt };
  const player = new Player(report);
  const list = new PuzzleList((puzzle) => player.show(puzzle));
  const scores = el("div");
  const charts = el("section", { class: "charts", "aria-label": "Overview" });
  let filters = null;

  const update = () => {
    if (!filters) {
      return; // It is being made.
    }
    const puzzles = filters.apply(state.halt);
    scores.replaceChildren(tiles(puzzles, state.halt));
    charts.replaceChildren(
      ...overview(report, puzzles, state.halt, filters.wanted.measure),
    );
    list.show(puzzles, state.halt, report.puzzles.length);
    // Without a data set there is nothing to see until a puzzle is typed.
    for (const part of [bar, filters, list, player, charts]) {
      (part.element ?? part).hidden = report.puzzles.length === 0;
    }
  };
  const bar = el(
    "div",
    { class: "bar" },
    scores,
    select(
      "Answers counted",
      [
        ["full", "after the last segment"],
        ["act", "where each puzzle halts"],
      ],
      state.halt,
      (value) => {
        state.halt = value;
        update();
      },
    ),
  );
  filters = new Filters(report, update);

  const began = (puzzles) => {
    const typed = report.puzzles.filter((puzzle) => puzzle.typed).length;
    puzzles.forEach((puzzle, i) => {
      puzzle.row = typed + i;
    });
    report.puzzles.unshift(...puzzles);
    filters.reset();
    list.mark(puzzles[0]);
    player.show(puzzles[0], 0);
    player.play();
    player.element.scrollIntoView({ block: "nearest" });
  };
  const grown = (puzzles) => {
    player.grown(puzzles);
    // Not each time: who reads in the list would lose the place.
    if (puzzles.every((puzzle) => !puzzle.thinking)) {
      update();
    }
  };

  const help = keysDialog();
  document.getElementById("top").append(...header(report, help));
  document.getElementById("main").replaceChildren(
    bar,
    filters.element,
    el(
      "div",
      { class: "desk" },
      el(
        "div",
        { class: "side" },
        report.live ? liveBox(report, began, grown) : null,
        list.element,
      ),
      player.element,
      charts,
    ),
    help,
  );
  update();
  if (list.puzzles.length) {
    list.pick(list.puzzles[0]);
  }
  listen(player, list, filters, help);
  document.documentElement.dataset.ready = "true";
}

function header(report, help) {
  const { about } = report;
  const facts = [
    `${KINDS[report.kind]} ${report.rows}×${report.columns}`,
    about.data === null ? "no data set" : `${about.data}, ${about.split}`,
    `${report.segments} segments`,
  ];
  return [
    el(
      "div",
      {},
      el("h1", {}, `${about.model}, step ${count(about.step)}`),
      el("p", {}, facts.join(" · ")),
    ),
    el(
      "div",
      { class: "tools" },
      themeButton(),
      el(
        "button",
        { type: "button", on: { click: () => help.showModal() } },
        "Keys",
      ),
    ),
  ];
}

/** Light, dark, or as the system says. */
function themeButton() {
  const themes = ["system", "light", "dark"];
  let now = 0;
  const words = () => `Theme: ${themes[now]}`;
  const button = el(
    "button",
    {
      type: "button",
      id: "theme",
      on: {
        click: () => {
          now = (now + 1) % themes.length;
          document.documentElement.dataset.theme = themes[now];
          button.textContent = words();
        },
      },
    },
    words(),
  );
  return button;
}

function keysDialog() {
  const dialog = el(
    "dialog",
    { "aria-labelledby": "keys-title" },
    el("h2", { id: "keys-title" }, "Keys"),
    el(
      "dl",
      { class: "keys" },
      ...KEYS.flatMap(([keys, words]) => [
        el("dt", {}, ...keys.split(" ").map((key) => el("kbd", {}, key))),
        el("dd", {}, words),
      ]),
    ),
    el(
      "p",
      {},
      "In a board the arrow keys go from cell to cell; the line below it says " +
        "what a cell holds.",
    ),
    el("form", { method: "dialog" }, el("button", { class: "main" }, "Close")),
  );
  return dialog;
}

function listen(player, list, filters, help) {
  const actions = {
    ArrowLeft: () => player.by(-1),
    ArrowRight: () => player.by(1),
    Home: () => player.go(0),
    End: () => player.go(player.last),
    ArrowUp: () => list.move(-1),
    ArrowDown: () => list.move(1),
    " ": () => player.toggle(),
    "/": () => {
      filters.element.open = true;
      filters.element.querySelector("input").focus();
    },
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const typing = target.closest("input, select, textarea, dialog");
    const presses = event.key === " " && target.closest("button, summary");
    const held = event.ctrlKey || event.metaKey || event.altKey;
    if (typing || presses || held || !Object.hasOwn(actions, event.key)) {
      return;
    }
    event.preventDefault();
    actions[event.key]();
  });
}

start().catch((error) => {
  const line = `This report cannot be shown: ${error.message}`;
  document.getElementById("main").replaceChildren(
    el("p", { class: "notice", role: "alert" }, line),
  );
  throw error;
});
