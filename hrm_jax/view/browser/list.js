// The puzzles that pass the filter, as a list of buttons.

import { lastSegment } from "./data.js";
import { count, el, plural } from "./dom.js";

const AT_A_TIME = 100;

/** Calls `onPick` with a puzzle; `show` draws, `move` goes up and down. */
export class PuzzleList {
  constructor(onPick) {
    this.onPick = onPick;
    this.items = el("ol", { class: "puzzles" });
    this.more = el(
      "button",
      { type: "button", on: { click: () => this.extend() } },
      "Show more",
    );
    this.title = el("h2", { id: "list-title" });
    this.element = el(
      "nav",
      { class: "card list", "aria-labelledby": "list-title" },
      this.title,
      el("p", { class: "hint" }, "After each segment: ● right, ○ not; | halts"),
      el("div", { class: "scroll" }, this.items, this.more),
    );
    this.puzzles = [];
  }

  show(puzzles, halt, total) {
    this.puzzles = puzzles;
    this.halt = halt;
    this.title.textContent =
      puzzles.length === total
        ? plural(total, "puzzle")
        : `${count(puzzles.length)} of ${plural(total, "puzzle")}`;
    this.items.replaceChildren();
    this.extend();
    this.mark(this.current);
  }

  extend() {
    const from = this.items.children.length;
    const next = this.puzzles.slice(from, from + AT_A_TIME);
    this.items.append(...next.map((puzzle) => this.item(puzzle)));
    this.more.hidden = this.items.children.length >= this.puzzles.length;
  }

  item(puzzle) {
    const right = puzzle.right[lastSegment(puzzle, this.halt) - 1];
    let [sign, word, look] = right
      ? ["✓", "solved", "right"]
      : ["✗", "unsolved", "wrong"];
    if (puzzle.thinking) {
      [sign, word, look] = ["…", "thinking", "open"];
    } else if (!puzzle.judged) {
      [sign, word, look] = ["?", "not known", "open"];
    }
    const button = el(
      "button",
      { type: "button", on: { click: () => this.pick(puzzle) } },
      el(
        "span",
        { class: `verdict ${look}` },
        sign,
        el("span", { class: "unseen" }, ` ${word},`),
      ),
      el("span", { class: "name" }, title(puzzle)),
      el("span", { class: "trail", "aria-hidden": "true" }, trail(puzzle)),
    );
    return el("li", {}, button);
  }

  pick(puzzle) {
    this.mark(puzzle);
    this.onPick(puzzle);
  }

  /** Marks a puzzle as the one that is shown. */
  mark(puzzle) {
    this.current = puzzle;
    const at = this.puzzles.indexOf(puzzle);
    while (at >= this.items.children.length && at < this.puzzles.length) {
      this.extend();
    }
    [...this.items.children].forEach((item, i) => {
      if (i === at) {
        item.firstChild.setAttribute("aria-current", "true");
        keepInView(this.items.parentElement, item);
      } else {
        item.firstChild.removeAttribute("aria-current");
      }
    });
  }

  move(by) {
    const at = this.puzzles.indexOf(this.current);
    const next = this.puzzles[Math.max(at + by, 0)];
    if (next && next !== this.current) {
      this.pick(next);
    }
  }
}

/** What a puzzle is called. */
export function title(puzzle) {
  if (puzzle.typed) {
    return `typed ${puzzle.row + 1}`;
  }
  const number = `#${puzzle.row}`;
  return puzzle.name ? `${number} ${puzzle.name}` : number;
}

/** A mark for each segment, filled where the answer is right. */
function trail(puzzle) {
  return puzzle.right
    .map((right, s) => {
      const mark = right ? "●" : "○";
      return s + 1 === puzzle.haltsAfter ? `${mark}|` : mark;
    })
    .join("");
}

/** Scrolls the list alone: the page stays where it is. */
function keepInView(box, item) {
  const top = item.offsetTop - box.offsetTop;
  if (top < box.scrollTop) {
    box.scrollTop = top;
  } else if (top + item.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = top + item.offsetHeight - box.clientHeight;
  }
}
