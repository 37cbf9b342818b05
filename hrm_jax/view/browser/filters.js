// Which puzzles are shown, and in which order.

import { lastSegment } from "./data.js";
import { checkbox, el, field, select } from "./dom.js";

const ORDERS = {
  data: ["as in the data", () => 0],
  wrong: ["most wrong cells", (p, at) => p.hits[at] - p.asked],
  unsure: ["least halting probability", (p, at) => p.halting[at]],
  sure: ["greatest halting probability", (p, at) => -p.halting[at]],
  slow: ["most segments", (p) => -p.haltsAfter],
};

const NOTHING = {
  text: "",
  outcome: "all",
  used: "all",
  first: "all",
  left: false,
  set: "all",
  measure: 0,
  least: "",
  most: "",
  order: "data",
};

/** A form; `onChange` is called whenever `apply` would say something else. */
export class Filters {
  constructor(report, onChange) {
    this.report = report;
    this.onChange = onChange;
    this.element = el("details", { class: "filters", open: wide() });
    this.reset();
  }

  /** The puzzles of the report that pass, in order. */
  apply(halt) {
    const wanted = this.wanted;
    const [, keyOf] = ORDERS[wanted.order];
    const passing = this.report.puzzles.filter((p) => this.passes(p, halt));
    const at = (puzzle) => lastSegment(puzzle, halt) - 1;
    return wanted.order === "data"
      ? passing
      : passing.sort((a, b) => keyOf(a, at(a)) - keyOf(b, at(b)));
  }

  passes(puzzle, halt) {
    const wanted = this.wanted;
    const right = puzzle.right[lastSegment(puzzle, halt) - 1];
    const value = puzzle.measures[wanted.measure];
    const name = `${puzzle.name} ${puzzle.set} ${puzzle.row}`.toLowerCase();
    return (
      name.includes(wanted.text.toLowerCase()) &&
      (wanted.outcome === "all" || right === (wanted.outcome === "solved")) &&
      (wanted.used === "all" || puzzle.haltsAfter === Number(wanted.used)) &&
      (wanted.first === "all" || puzzle.firstRight === Number(wanted.first)) &&
      (!wanted.left || puzzle.left) &&
      (wanted.set === "all" || puzzle.set === wanted.set) &&
      (wanted.least === "" || within(Number(wanted.least), value)) &&
      (wanted.most === "" || within(value, Number(wanted.most)))
    );
  }

  /** Lets everything through. */
  reset() {
    this.wanted = { ...NOTHING };
    this.element.replaceChildren(
      el("summary", {}, "Filter and order"),
      el("div", { class: "fields" }, ...this.fields()),
    );
    this.onChange();
  }

  fields() {
    const { report } = this;
    const set = (key) => (value) => {
      this.wanted[key] = value;
      this.onChange();
    };
    const numbers = Array.from({ length: report.segments }, (_, s) => [
      String(s + 1),
      String(s + 1),
    ]);
    const any = ["all", "any"];
    const found = [
      input("Name or row", "search", this.wanted.text, set("text")),
      select(
        "Outcome",
        [["all", "all"], ["solved", "solved"], ["unsolved", "unsolved"]],
        "all",
        set("outcome"),
      ),
      select("Segments used", [any, ...numbers], "all", set("used")),
      select(
        "First right after",
        [any, ["0", "never"], ...numbers],
        "all",
        set("first"),
      ),
    ];
    if (report.set_names.length > 1) {
      const sets = report.set_names.map((name) => [name, name]);
      found.push(select("Set", [any, ...sets], "all", set("set")));
    }
    const labels = report.measures.map((m, i) => [String(i), m.label]);
    if (labels.length > 1) {
      found.push(
        select("Difficulty", labels, "0", (value) => {
          this.wanted.measure = Number(value);
          this.onChange();
        }),
      );
    }
    const what = labels.length > 1 ? "difficulty" : labels[0][1];
    found.push(
      input(`Least ${what}`, "number", "", set("least")),
      input(`Most ${what}`, "number", "", set("most")),
      select(
        "Order",
        Object.entries(ORDERS).map(([key, [text]]) => [key, text]),
        "data",
        set("order"),
      ),
      checkbox("right once, then left", false, set("left")),
      el(
        "button",
        { type: "button", on: { click: () => this.reset() } },
        "Show all",
      ),
    );
    return found;
  }
}

function input(label, type, value, onChange) {
  const box = el("input", {
    type,
    value,
    on: { input: () => onChange(box.value) },
  });
  return field(label, box);
}

function wide() {
  return window.matchMedia("(min-width: 60rem)").matches;
}

/** Whether two numbers are in order; null, not known, is in none. */
function within(less, more) {
  return less !== null && more !== null && less <= more;
}
