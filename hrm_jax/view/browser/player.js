// One puzzle, segment by segment.

import { Board, frameOf, nameOf } from "./board.js";
import { segmentChart } from "./charts.js";
import { isWrong, lastSegment, tokensAfter } from "./data.js";
import { checkbox, el, percent, plural, svg } from "./dom.js";
import { title } from "./list.js";

const PAUSE_MS = 700;

export class Player {
  constructor(report) {
    this.report = report;
    this.puzzle = null;
    this.segment = 0;
    this.timer = null;
    this.waits = false; // For the next segment, while the network thinks.
    // What an answer is compared with stands beside it where it is not in it.
    const apart = report.kind === "arc" || report.kind === "grid";
    this.shown = {
      puzzle: apart,
      solution: apart,
      doubt: true,
      changes: true,
      mistakes: true,
    };
    const board = (id) => new Board(id, report, (cell) => this.tell(cell));
    this.boards = {
      puzzle: board("puzzle"),
      answer: board("answer"),
      solution: board("solution"),
    };
    this.build();
  }

  build() {
    this.heading = el("h2", { id: "player-title" });
    this.facts = el("p", { class: "facts" });
    this.status = el("p", {
      class: "status",
      role: "status",
      id: "segment-status",
    });
    this.detail = el("p", { class: "detail", id: "cell-detail" });
    this.steps = el("ol", { class: "steps" });
    this.chart = el("div", { class: "curve" });
    const button = (id, label, action) =>
      el(
        "button",
        { type: "button", id, "aria-label": label, on: { click: action } },
        icon(id),
      );
    this.playButton = button("play", "Play", () => this.toggle());
    this.element = el(
      "article",
      { class: "card player", "aria-labelledby": "player-title" },
      el("div", { class: "title" }, this.heading, this.facts),
      el(
        "div",
        { class: "controls", role: "group", "aria-label": "Segments" },
        button("first", "Before the first segment", () => this.jump(0)),
        button("back", "One segment back", () => this.by(-1)),
        this.playButton,
        button("forward", "One segment forward", () => this.by(1)),
        button("last", "After the last segment", () => this.jump(this.last)),
        this.steps,
      ),
      this.status,
      el(
        "div",
        { class: "stage" },
        el(
          "div",
          { class: "boards" },
          ...Object.values(this.boards).map((board) => board.element),
        ),
        this.chart,
      ),
      this.detail,
      this.options(),
      legend(this.report.kind),
    );
  }

  options() {
    const words = {
      puzzle: "puzzle",
      solution: "solution",
      doubt: "doubt",
      changes: "changes",
      mistakes: "mistakes",
    };
    return el(
      "fieldset",
      { class: "options" },
      el("legend", {}, "Show"),
      ...Object.entries(words).map(([key, word]) =>
        checkbox(word, this.shown[key], (checked) => {
          this.shown[key] = checked;
          this.draw();
        }),
      ),
    );
  }

  /** The last segment that is there. */
  get last() {
    return this.puzzle ? this.puzzle.answers.length : 0;
  }

  /** Shows a puzzle, at the answer that it would have halted with. */
  show(puzzle, segment = lastSegment(puzzle, "act")) {
    this.pause();
    this.puzzle = puzzle;
    for (const board of Object.values(this.boards)) {
      board.cursor = null;
    }
    this.go(segment);
  }

  by(segments) {
    this.pause();
    this.go(this.segment + segments);
  }

  jump(segment) {
    this.pause();
    this.go(segment);
  }

  go(segment) {
    if (this.puzzle) {
      this.segment = Math.min(Math.max(segment, 0), this.last);
      this.draw();
    }
  }

  toggle() {
    if (this.timer !== null) {
      this.pause();
    } else {
      this.play();
    }
  }

  /** Plays from here, or once more from the start. */
  play() {
    if (!this.puzzle) {
      return;
    }
    if (this.segment >= this.last && !this.puzzle.thinking) {
      this.go(0);
    }
    this.timer = setInterval(() => this.step(), PAUSE_MS);
    this.playButton.replaceChildren(icon("pause"));
    this.playButton.setAttribute("aria-label", "Pause");
  }

  /** Plays the next segment, if it is there. */
  step() {
    this.waits = this.segment === this.last;
    if (!this.waits) {
      this.go(this.segment + 1);
    }
    if (this.segment === this.last && !this.puzzle.thinking) {
      this.pause();
    }
  }

  /** Puzzles have another segment, or will have no more. */
  grown(puzzles) {
    if (!puzzles.includes(this.puzzle)) {
      return;
    }
    this.draw();
    if (this.waits) {
      clearInterval(this.timer);
      this.timer = setInterval(() => this.step(), PAUSE_MS);
      this.step();
    }
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.waits = false;
    this.playButton.replaceChildren(icon("play"));
    this.playButton.setAttribute("aria-label", "Play");
  }

  draw() {
    const { puzzle, segment, report, shown } = this;
    if (!puzzle) {
      return;
    }
    const frames = framesOf(report, puzzle);
    const tokens = tokensAfter(puzzle, segment);
    const answered = segment > 0;
    const marks = {
      previous:
        answered && shown.changes ? tokensAfter(puzzle, segment - 1) : null,
      confidence: answered && shown.doubt ? puzzle.confidence[segment - 1] : null,
      mistakes: answered && shown.mistakes,
    };
    this.heading.textContent = `Puzzle ${title(puzzle)}`;
    this.facts.textContent = factsOf(report, puzzle);
    this.boards.answer.draw(
      answered ? `After segment ${segment}` : "Before the first segment",
      puzzle,
      tokens,
      answered ? frames.answer : frames.puzzle,
      marks,
    );
    this.side("puzzle", "Puzzle", puzzle.inputs, frames.puzzle);
    const solution = puzzle.labels.map((label, i) =>
      label ? label - 1 : report.kind === "arc" ? 0 : puzzle.inputs[i],
    );
    this.side("solution", "Solution", solution, frames.answer);
    this.status.textContent = statusOf(puzzle, segment);
    this.tell(null);
    this.drawSteps();
    this.drawChart();
    for (const [id, end] of [["first", 0], ["back", 0]]) {
      this.disable(id, segment === end);
    }
    for (const id of ["forward", "last"]) {
      this.disable(id, segment === this.last);
    }
  }

  disable(id, yes) {
    // Not `disabled`, which would take the focus away from whoever clicks.
    this.element.querySelector(`#${id}`).setAttribute("aria-disabled", yes);
  }

  side(name, words, tokens, frame) {
    const { puzzle } = this;
    const known = name !== "solution" || puzzle.asked > 0;
    this.boards[name].element.hidden = !(this.shown[name] && known);
    if (this.shown[name] && known) {
      this.boards[name].draw(words, puzzle, tokens, frame);
    }
  }

  drawSteps() {
    const { puzzle, segment } = this;
    const items = puzzle.right.map((right, s) => {
      const number = s + 1;
      const halts = number === puzzle.haltsAfter;
      const words = [
        `Segment ${number}`,
        ...(puzzle.judged ? [right ? "right" : "not right"] : []),
        ...(halts ? ["halts here"] : []),
      ];
      const share = puzzle.asked ? puzzle.hits[s] / puzzle.asked : Number(right);
      const button = el(
        "button",
        {
          type: "button",
          class: [right ? "right" : "wrong", halts ? "halts" : ""].join(" "),
          "aria-label": words.join(", "),
          "aria-current": number === segment ? "step" : null,
          title: words.join(", "),
          on: {
            click: () => this.jump(number),
          },
        },
        el("span", { class: "number" }, String(number)),
        el("span", { class: "sign" }, right ? "●" : "○"),
      );
      button.style.setProperty("--share", share);
      return el("li", {}, button);
    });
    // Whoever steps with a focused button keeps it.
    const focused = [...this.steps.children].findIndex((item) =>
      item.contains(document.activeElement),
    );
    this.steps.replaceChildren(...items);
    if (focused >= 0) {
      items[focused]?.firstChild.focus();
    }
  }

  drawChart() {
    const { puzzle, segment, report } = this;
    // The axis has room for the segments that are to come.
    const all = (values) =>
      Array.from({ length: report.segments }, (_, s) => values[s] ?? NaN);
    // A network that learns no value of thinking on says 0.5.
    const learned = puzzle.continuing.some((value) => value !== 0.5);
    const open = this.chart.querySelector("details")?.open;
    this.chart.replaceChildren(
      segmentChart(
        "Halt or think on",
        [
          { name: "halting probability", values: all(puzzle.halting) },
          ...(learned
            ? [{ name: "thinking on", values: all(puzzle.continuing) }]
            : []),
        ],
        {
          current: segment,
          flag: puzzle.haltsAfter,
          onPick: (picked) => this.jump(picked),
        },
      ),
      el(
        "p",
        { class: "hint" },
        learned
          ? "Chances of a right answer, by the network's own word: as it is " +
              "now, and in the end. It halts where the first is above the " +
              "second, and after the last segment."
          : "The chance of a right answer, by the network's own word. It halts " +
              "where that is above 50 %, and after the last segment.",
      ),
    );
    this.chart.querySelector("details").open = Boolean(open);
  }

  /** Says what a cell holds, in a line below the boards. */
  tell(cell) {
    const { puzzle, segment, report } = this;
    if (!puzzle) {
      return;
    }
    if (cell === null) {
      this.detail.textContent =
        "Point at a cell, or move through a board with the arrow keys.";
      return;
    }
    const row = Math.floor(cell / report.columns) + 1;
    const tokens = tokensAfter(puzzle, segment);
    const words = [
      `Row ${row}, column ${(cell % report.columns) + 1}: ` +
        nameOf(report, tokens[cell]),
    ];
    if (segment > 0) {
      words.push(`${puzzle.confidence[segment - 1][cell]} % sure`);
      const before = tokensAfter(puzzle, segment - 1)[cell];
      if (before !== tokens[cell]) {
        words.push(`${nameOf(report, before)} before`);
      }
      if (isWrong(puzzle, tokens, cell)) {
        words.push(`expected ${nameOf(report, puzzle.labels[cell] - 1)}`);
      }
    }
    this.detail.textContent = `${words.join(" · ")}`;
  }
}

const ICONS = {
  first: "M4 3h2v10H4zM14 3v10L7 8z",
  back: "M12 3v10L5 8z",
  play: "M5 3v10l8-5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  forward: "M4 3v10l7-5z",
  last: "M2 3v10l7-5zM10 3h2v10h-2z",
};

function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }),
  );
}

function framesOf(report, puzzle) {
  const solution = puzzle.labels.map((label) => (label ? label - 1 : 0));
  const wrong = (cell) =>
    puzzle.answers.some((answer) => isWrong(puzzle, answer, cell));
  // Beyond the cells that are asked for, an answer holds anything.
  const known = puzzle.asked > 0;
  return {
    puzzle: frameOf(report, [puzzle.inputs]),
    answer: frameOf(report, known ? [solution] : puzzle.answers, wrong),
  };
}

function factsOf(report, puzzle) {
  // A typed puzzle has no rating, which would come last.
  const facts = puzzle.measures.map(
    (value, i) => `${value} ${report.measures[i].label}`,
  );
  if (report.set_names.length > 1 && !puzzle.typed) {
    facts.unshift(`set ${puzzle.set}`);
  }
  if (puzzle.judged) {
    const first = puzzle.firstRight;
    const never = puzzle.thinking ? "not right yet" : "never right";
    facts.push(first ? `first right after segment ${first}` : never);
  } else {
    facts.push("nobody knows the solution");
  }
  if (puzzle.left) {
    facts.push("left a right answer again");
  }
  if (puzzle.haltsAfter) {
    facts.push(`halts after segment ${puzzle.haltsAfter}`);
  }
  if (puzzle.thinking) {
    facts.push("thinking …");
  }
  return facts.join(" · ");
}

function statusOf(puzzle, segment) {
  if (segment === 0) {
    return "The puzzle as the network gets it.";
  }
  const tokens = tokensAfter(puzzle, segment);
  const before = tokensAfter(puzzle, segment - 1);
  // What is not asked for is nobody's business.
  const counts = (cell) => !puzzle.asked || puzzle.labels[cell] > 0;
  const changed = tokens.reduce(
    (sum, token, i) => sum + (token !== before[i] && counts(i)),
    0,
  );
  const words = [`${plural(changed, "cell")} changed`];
  if (puzzle.asked) {
    const wrong = puzzle.asked - puzzle.hits[segment - 1];
    words.push(wrong ? `${plural(wrong, "cell")} wrong` : "all right");
    if (wrong && puzzle.shortest?.[segment - 1]) {
      words.push("but another shortest path");
    }
  }
  for (const rule of puzzle.rules?.[segment - 1] ?? []) {
    words.push(`${rule.words}: ${rule.kept ? "yes" : "no"}`);
  }
  words.push(`halting probability ${percent(puzzle.halting[segment - 1])}`);
  if (puzzle.haltsAfter && segment > puzzle.haltsAfter) {
    words.push("beyond where it would halt");
  }
  return words.join(" · ");
}

function legend(kind) {
  const given = kind === "sudoku" ? [["given", "5", "given"]] : [];
  const entries = [
    ...given,
    ["changed", "", "changed in this segment"],
    ["doubted", "", "the longer the bar, the less sure"],
    ["mistake", "", "wrong"],
  ];
  return el(
    "ul",
    { class: "key", "aria-label": "Signs on the board" },
    ...entries.map(([name, text, words]) => {
      const sample = el(
        "span",
        { class: `sample cell ${name}`, "aria-hidden": "true" },
        text,
      );
      sample.style.setProperty("--doubt", 0.6);
      return el("li", {}, sample, words);
    }),
  );
}
