// Makes elements. Text goes in as text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `props` are attributes, but for `on`, a map of listeners. */
export function el(name, props = {}, ...children) {
  return filled(document.createElement(name), props, children);
}

/** The same for a drawing. */
export function svg(name, props = {}, ...children) {
  return filled(document.createElementNS(SVG, name), props, children);
}

function filled(element, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (key === "on") {
      for (const [type, listener] of Object.entries(value)) {
        element.addEventListener(type, listener);
      }
    } else if (value === true) {
      element.setAttribute(key, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(key, value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A share as a person reads it: "97.2 %". */
export function percent(share, digits = 1) {
  return Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "—";
}

export function count(number) {
  return number.toLocaleString("en");
}

/** "1 cell", "2 cells". */
export function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

let fields = 0;

/** A label above its input or select. */
export function field(label, box) {
  fields += 1;
  box.id = `field-${fields}`;
  return el("div", { class: "field" }, el("label", { for: box.id }, label), box);
}

/** A choice: [value, text] pairs. */
export function select(label, options, value, onChange) {
  const box = el("select", { on: { change: () => onChange(box.value) } });
  for (const [key, text] of options) {
    box.append(el("option", { value: key, selected: key === value }, text));
  }
  return field(label, box);
}

export function checkbox(label, checked, onChange) {
  const box = el("input", {
    type: "checkbox",
    checked,
    on: { change: () => onChange(box.checked) },
  });
  return el("label", { class: "check" }, box, el("span", {}, label));
}
