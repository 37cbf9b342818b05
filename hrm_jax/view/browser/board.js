// A grid of cells, by the kind of puzzle.

import { isWrong } from "./data.js";
import { el } from "./dom.js";

const SURE = 95; // percent
const PAD = 0;
const SUDOKU_BLANK = 1;
const ARC_END = 1;
const MAZE = ["pad", "wall", "free", "start", "goal", "path"];

/**
 * A board with a cursor for the arrow keys.
 * `onCell` is called with the number of the cell under it, or null.
 */
export class Board {
  constructor(id, report, onCell) {
    this.id = id;
    this.report = report;
    this.onCell = onCell;
    this.cursor = null;
    this.title = el("h3", { id: `${id}-title` });
    this.cells = el("div", {
      class: `board ${report.kind}`,
      role: "grid",
      tabindex: "0",
      "aria-labelledby": `${id}-title`,
      on: {
        keydown: (event) => this.key(event),
        focus: () => this.place(this.cursor ?? this.first()),
        blur: () => this.place(null),
        mouseover: (event) => this.point(event.target),
        mouseleave: () => this.onCell(null),
      },
    });
    this.element = el("section", { class: "held" }, this.title, this.cells);
  }

  /**
   * Draws tokens.
   * `frame` is what part of the grid to show; `marks` may hold `previous`
   * tokens, `confidence` in percent, and `mistakes`, whether to mark them.
   */
  draw(title, puzzle, tokens, frame, marks = {}) {
    this.frame = frame;
    this.title.textContent = title;
    const { rows, columns } = this.report;
    const { top, left, bottom, right } = frame;
    const wide = right - left;
    this.cells.style.setProperty("--columns", wide);
    this.cells.style.setProperty("--largest", Math.max(wide, bottom - top));
    this.cells.classList.toggle("dense", wide > 12);
    this.cells.setAttribute("aria-rowcount", rows);
    this.cells.setAttribute("aria-colcount", columns);
    const drawn = [];
    for (let row = top; row < bottom; row++) {
      const line = el("div", { role: "row", "aria-rowindex": row + 1 });
      for (let column = left; column < right; column++) {
        const cell = row * columns + column;
        line.append(this.cell(puzzle, tokens, cell, row, column, marks));
      }
      drawn.push(line);
    }
    this.cells.replaceChildren(...drawn);
    if (this.cursor !== null && document.activeElement === this.cells) {
      this.place(this.cursor);
    }
  }

  cell(puzzle, tokens, cell, row, column, marks) {
    const { report } = this;
    const token = tokens[cell];
    const classes = ["cell", ...look(report, puzzle, token, cell)];
    if (report.box) {
      const [high, wide] = report.box;
      classes.push(...(row % high === 0 && row ? ["box-top"] : []));
      classes.push(...(column % wide === 0 && column ? ["box-left"] : []));
    }
    const words = [];
    if (marks.previous && marks.previous[cell] !== token) {
      classes.push("changed");
      words.push("changed");
    }
    if (marks.mistakes && isWrong(puzzle, tokens, cell)) {
      classes.push("mistake");
      words.push("wrong");
    }
    const shown = el(
      "div",
      {
        id: `${this.id}-${cell}`,
        class: classes.join(" "),
        role: "gridcell",
        "aria-colindex": column + 1,
        "data-cell": cell,
      },
      el("span", { class: "symbol" }, symbolOf(report, token)),
    );
    if (words.length) {
      shown.append(el("span", { class: "unseen" }, `, ${words.join(", ")}`));
    }
    // A few percent of doubt are everywhere, and would only be dust.
    if (marks.confidence && marks.confidence[cell] <= SURE) {
      shown.classList.add("doubted");
      shown.style.setProperty("--doubt", 1 - marks.confidence[cell] / 100);
    }
    return shown;
  }

  first() {
    return this.frame.top * this.report.columns + this.frame.left;
  }

  key(event) {
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const move = moves[event.key];
    if (!move || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    const { top, left, bottom, right } = this.frame;
    const { columns } = this.report;
    const from = this.cursor ?? this.first();
    const row = Math.floor(from / columns) + move[0];
    const column = (from % columns) + move[1];
    this.place(
      Math.min(Math.max(row, top), bottom - 1) * columns +
        Math.min(Math.max(column, left), right - 1),
    );
  }

  place(cell) {
    this.cells.querySelector(".cursor")?.classList.remove("cursor");
    this.cursor = cell ?? this.cursor;
    const shown = cell === null ? null : this.shownAt(cell);
    if (shown) {
      shown.classList.add("cursor");
      this.cells.setAttribute("aria-activedescendant", shown.id);
    } else {
      this.cells.removeAttribute("aria-activedescendant");
    }
    this.onCell(shown ? cell : null);
  }

  shownAt(cell) {
    return this.cells.querySelector(`[data-cell="${cell}"]`);
  }

  point(target) {
    const shown = target.closest("[data-cell]");
    this.onCell(shown ? Number(shown.dataset.cell) : null);
  }
}

/** What a token looks like as text. */
export function symbolOf(report, token) {
  return report.symbols[token] ?? "?";
}

/** The same where it stands alone in a sentence. */
export function nameOf(report, token) {
  if (report.kind === "maze") {
    return MAZE[token] ?? "?";
  }
  if (report.kind === "arc" && token <= ARC_END) {
    return token === PAD ? "outside" : "end mark";
  }
  if (report.kind === "sudoku" && token === SUDOKU_BLANK) {
    return "blank";
  }
  return token === PAD ? "padding" : `“${symbolOf(report, token)}”`;
}

function look(report, puzzle, token, cell) {
  if (report.kind === "sudoku") {
    const given = puzzle.inputs[cell] > SUDOKU_BLANK;
    return [given ? "given" : token === SUDOKU_BLANK ? "blank" : "filled"];
  }
  if (report.kind === "maze") {
    return [MAZE[token] ?? "pad"];
  }
  if (report.kind === "arc") {
    return [token === PAD ? "pad" : token === ARC_END ? "end" : `c${token - 2}`];
  }
  return [token === PAD ? "pad" : "filled"];
}

/**
 * The rows and columns that hold something, in any of several grids.
 * Sudokus and mazes fill theirs; ARC has a board of 30x30 for all sizes.
 */
export function frameOf(report, grids, alsoShow = () => false) {
  const { rows, columns, kind } = report;
  if (kind === "sudoku" || kind === "maze") {
    return { top: 0, left: 0, bottom: rows, right: columns };
  }
  const empty = kind === "arc" ? ARC_END : PAD;
  const frame = { top: rows, left: columns, bottom: 0, right: 0 };
  for (let cell = 0; cell < rows * columns; cell++) {
    if (grids.some((grid) => grid[cell] > empty) || alsoShow(cell)) {
      const row = Math.floor(cell / columns);
      const column = cell % columns;
      frame.top = Math.min(frame.top, row);
      frame.left = Math.min(frame.left, column);
      frame.bottom = Math.max(frame.bottom, row + 1);
      frame.right = Math.max(frame.right, column + 1);
    }
  }
  return frame.bottom
    ? frame
    : { top: 0, left: 0, bottom: rows, right: columns };
}
