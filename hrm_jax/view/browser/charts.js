// Small charts, drawn by hand; each has its numbers in a table below it.

import { el, percent, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 176;
const LEFT = 38;
const RIGHT = 18;
const TOP = 16;
const BOTTOM = 34;
const MARKS = ["circle", "square", "diamond"];

/** A frame with a caption, a drawing, a legend and the numbers. */
function figure(title, summary, drawing, legend, header, rows) {
  const table = el(
    "table",
    {},
    el("tr", {}, ...header.map((text) => el("th", { scope: "col" }, text))),
    ...rows.map((row) =>
      el(
        "tr",
        {},
        ...row.map((text, i) =>
          i ? el("td", {}, text) : el("th", { scope: "row" }, text),
        ),
      ),
    ),
  );
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", `${title}. ${summary}`);
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, title),
    drawing,
    legend,
    el("details", {}, el("summary", {}, "Numbers"), table),
  );
}

function canvas() {
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot" });
}

const across = (share) => LEFT + share * (WIDTH - LEFT - RIGHT);
const up = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);

function grid(drawing, labels) {
  labels.forEach((label, i) => {
    const y = up(i / (labels.length - 1));
    drawing.append(
      svg("line", { class: "rule", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
      svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, label),
    );
  });
}

const PERCENTS = ["0 %", "50 %", "100 %"];

function below(drawing, x, text) {
  drawing.append(
    svg("text", { x, y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, text),
  );
}

function axisTitle(drawing, text) {
  const x = (LEFT + WIDTH - RIGHT) / 2;
  drawing.append(
    svg("text", { x, y: HEIGHT - 3, "text-anchor": "middle" }, text),
  );
}

function mark(shape, x, y, kind) {
  if (shape === "circle") {
    return svg("circle", { class: `dot ${kind}`, cx: x, cy: y, r: 3.2 });
  }
  const turn = shape === "diamond" ? `rotate(45 ${x} ${y})` : null;
  return svg("rect", {
    class: `dot ${kind}`,
    x: x - 2.8,
    y: y - 2.8,
    width: 5.6,
    height: 5.6,
    transform: turn,
  });
}

function legendOf(series) {
  return el(
    "p",
    { class: "legend" },
    ...series.map((line, i) => {
      const swatch = svg("svg", {
        viewBox: "0 0 26 10",
        class: "swatch",
        "aria-hidden": "true",
      });
      swatch.append(
        svg("line", { class: `line l${i}`, x1: 1, x2: 25, y1: 5, y2: 5 }),
        mark(MARKS[i], 13, 5, `l${i}`),
      );
      return el("span", {}, swatch, line.name);
    }),
  );
}

/**
 * Shares over segments 1, 2, ...
 * `current` draws a rule at a segment, `flag` another with a word beside it;
 * `onPick` is called with the segment that is clicked.
 */
export function segmentChart(title, series, options = {}) {
  const segments = series[0].values.length;
  const x = (s) => across(segments > 1 ? (s - 1) / (segments - 1) : 0.5);
  const drawing = canvas();
  grid(drawing, PERCENTS);
  const step = Math.ceil(segments / 8);
  for (let s = 1; s <= segments; s += step) {
    below(drawing, x(s), String(s));
  }
  axisTitle(drawing, "segment");
  if (options.flag) {
    const at = x(options.flag);
    const end = at > WIDTH * 0.6;
    drawing.append(
      svg("line", { class: "flag", x1: at, x2: at, y1: up(0), y2: up(1) }),
      svg(
        "text",
        {
          x: at + (end ? -5 : 5),
          y: up(0.5) + 4,
          "text-anchor": end ? "end" : "start",
        },
        "halts here",
      ),
    );
  }
  if (options.current) {
    const at = x(options.current);
    drawing.append(
      svg("line", { class: "now", x1: at, x2: at, y1: up(0), y2: up(1) }),
    );
  }
  series.forEach((line, i) => {
    const points = line.values.map((value, s) => [x(s + 1), up(value)]);
    const good = points.filter(([, y]) => Number.isFinite(y));
    drawing.append(
      svg("polyline", {
        class: `line l${i}`,
        points: good.map((point) => point.join(",")).join(" "),
      }),
      ...good.map(([px, py]) => mark(MARKS[i], px, py, `l${i}`)),
    );
  });
  if (options.onPick) {
    drawing.classList.add("picks");
    drawing.addEventListener("click", (event) => {
      const box = drawing.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * WIDTH;
      const share = (at - LEFT) / (WIDTH - LEFT - RIGHT);
      const picked = Math.round(share * (segments - 1)) + 1;
      options.onPick(Math.min(Math.max(picked, 1), segments));
    });
  }
  const ends = series.map((l) => `${l.name}: ${percent(l.values.at(-1))}`);
  const rows = Array.from({ length: segments }, (_, s) => [
    String(s + 1),
    ...series.map((line) => percent(line.values[s], 2)),
  ]);
  return figure(
    title,
    `After segment ${segments}, ${ends.join(", ")}.`,
    drawing,
    legendOf(series),
    ["segment", ...series.map((line) => line.name)],
    rows,
  );
}

/** Bars [{label, share, text, count}]; a share is a height from 0 to 1. */
export function barChart(title, axis, bars, options = {}) {
  const drawing = canvas();
  grid(drawing, options.grid ?? PERCENTS);
  const room = (WIDTH - LEFT - RIGHT) / Math.max(bars.length, 1);
  const thin = Math.min(room * 0.72, 42);
  const every = Math.ceil(
    (bars.length * Math.max(...bars.map((b) => b.label.length), 1) * 7.5) /
      (WIDTH - LEFT - RIGHT),
  );
  bars.forEach((bar, i) => {
    const x = LEFT + (i + 0.5) * room;
    const share = Number.isFinite(bar.share) ? bar.share : 0;
    drawing.append(
      svg(
        "rect",
        {
          class: "column",
          x: x - thin / 2,
          y: up(share),
          width: thin,
          height: up(0) - up(share),
          rx: 2,
        },
        svg("title", {}, `${bar.label}: ${bar.text}`),
      ),
    );
    if (i % every === 0) {
      below(drawing, x, bar.label);
    }
  });
  axisTitle(drawing, axis);
  return figure(
    title,
    bars.map((bar) => `${bar.label}: ${bar.text}`).join(", "),
    drawing,
    null,
    [axis, ...(options.header ?? ["right", "puzzles"])],
    bars.map((bar) => [bar.label, bar.text, String(bar.count)]),
  );
}

/** Points [{x, y, count}], shares both; the diagonal is a perfect judge. */
export function scatterChart(title, axis, points) {
  const drawing = canvas();
  grid(drawing, PERCENTS);
  for (const share of [0, 0.5, 1]) {
    below(drawing, across(share), percent(share, 0));
  }
  axisTitle(drawing, axis);
  drawing.append(
    svg("line", {
      class: "diagonal",
      x1: across(0),
      y1: up(0),
      x2: across(1),
      y2: up(1),
    }),
  );
  const most = Math.max(...points.map((point) => point.count), 1);
  for (const point of points) {
    drawing.append(
      svg(
        "circle",
        {
          class: "bubble",
          cx: across(point.x),
          cy: up(point.y),
          r: 3 + 9 * Math.sqrt(point.count / most),
        },
        svg(
          "title",
          {},
          `halting ${percent(point.x)}, right ${percent(point.y)}, ` +
            `puzzles ${point.count}`,
        ),
      ),
    );
  }
  return figure(
    title,
    points
      .map((p) => `halting ${percent(p.x)}: right ${percent(p.y)}`)
      .join(", "),
    drawing,
    el(
      "p",
      { class: "legend" },
      "The larger a circle, the more puzzles; on the dashed line the network " +
        "knows exactly how often it is right.",
    ),
    [axis, "right", "puzzles"],
    points.map((p) => [percent(p.x), percent(p.y), String(p.count)]),
  );
}
