// Draws the parts of a panel of the Dataset page that its value holds: {message, progress, figures, found, tools,
// table, pages}. All text is placed by textContent. What narrows or turns the list is told to the document: the events
// "narrow" (filters to set, or to take away if they are set), "seek" (a text) and "goto" (an address of this page).
const box = element.querySelector(".panel");
const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));

function make(tag, className, text, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

// A link of this page, or to another one: nothing else is ever followed.
function link(text, href, className, key = text) {
  const node = make("a", className, text);
  if (/^(\?|\.\/)/.test(href)) node.href = href;
  node.dataset.key = key; // finds it again when the panel is drawn anew
  node.addEventListener("click", (event) => {
    if (!href.startsWith("?") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    tell("goto", href);
  });
  return node;
}

function narrowing(text, narrow, className) {
  const node = make("button", className, text);
  node.type = "button";
  node.addEventListener("click", () => tell("narrow", narrow));
  return node;
}

function piece(value) {
  if (typeof value === "string") return document.createTextNode(value);
  if (value.lines) return make("div", "lines", "", ...value.lines.map(piece));
  if (value.narrow) return narrowing(value.text, value.narrow, "narrow");
  if (value.href) return link(value.text, value.href, value.class || "", value.href);
  return make("span", value.class || "", value.text);
}

function message({ text, alert }) {
  const node = make("p", "message", text);
  node.setAttribute("role", alert ? "alert" : "status");
  return node;
}

function progress({ done, of, text }) {
  const bar = make("progress", "");
  bar.setAttribute("aria-label", "Rows scored");
  if (of) [bar.max, bar.value] = [of, done];
  return make("div", "progress", "", bar, make("span", "", text));
}

function figures(list) {
  return make("dl", "figures", "", ...list.map(({ name, text, note, narrow }) => {
    const value = make("dd", "", "", narrow ? narrowing(text, narrow, "narrow") : make("b", "", text));
    if (note) value.append(make("small", "", note));
    return make("div", "", "", make("dt", "", name), value);
  }));
}

function tools({ search, quick, chips, clear, review }) {
  const field = make("input", "");
  Object.assign(field, { type: "search", value: search, placeholder: "Search prompt and responses" });
  field.setAttribute("aria-label", "Search prompt and responses");
  field.dataset.key = "search";
  const form = make("form", "search", "", field, make("button", "", "Search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell("seek", field.value.trim());
  });
  field.addEventListener("search", () => field.value || !search || tell("seek", "")); // its own cross was pressed
  const row = make("div", "tools", "", form);
  for (const { text, href, on } of quick) {
    const node = link(text, href, "toggle");
    node.setAttribute("aria-current", on);
    row.append(node);
  }
  if (review) row.append(link("Review these", review, "more"));
  const set = make("div", "chips", "");
  for (const { text, href } of chips) {
    const node = link(text, href, "chip");
    node.setAttribute("aria-label", `Remove the filter: ${text}`);
    set.append(node);
  }
  if (clear) set.append(link("Clear all filters", clear, "more"));
  return make("div", "", "", row, ...(set.childNodes.length ? [set] : []));
}

function table({ caption, kind, headers, numeric, rows }) {
  const node = make("table", kind || "");
  node.createCaption().textContent = caption;
  const head = node.createTHead().insertRow();
  headers.forEach(({ text, href, sorted }, k) => {
    const cell = make("th", numeric.includes(k) ? "number" : "", "", href ? link(text, href, "") : text);
    cell.scope = "col";
    if (sorted) cell.setAttribute("aria-sort", sorted);
    head.append(cell);
  });
  const body = node.createTBody();
  for (const { cells } of rows) {
    const row = body.insertRow();
    cells.forEach((value, k) => {
      const cell = make("td", numeric.includes(k) ? "number" : "", "", piece(value));
      cell.dataset.label = headers[k].text;
      row.append(cell);
    });
  }
  if (!rows.length) body.insertRow().append(Object.assign(make("td", "none", "None."), { colSpan: headers.length }));
  const frame = make("div", "frame", "", node);
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", caption);
  return frame;
}

function pages({ text, previous, next }) {
  const row = make("nav", "pages", "");
  row.setAttribute("aria-label", "Pages of the list");
  if (previous) row.append(link("Previous", previous, "step"));
  row.append(make("span", "", text));
  if (next) row.append(link("Next", next, "step"));
  return row;
}

const PARTS = { message, progress, figures, tools, table, pages };

function draw() {
  const value = props.value || {};
  const here = box.contains(document.activeElement) ? document.activeElement : null;
  const key = here?.dataset.key;
  const found = box.querySelector(".found");
  if (found.textContent !== (value.found || "")) found.textContent = value.found || "";
  const parts = Object.keys(PARTS).filter((name) => value[name]);
  box.querySelector(".parts").replaceChildren(...parts.map((name) => PARTS[name](value[name])));
  if (!here) return; // else the focus stays where it was, or at the list's beginning
  const again = key && box.querySelector(`[data-key="${CSS.escape(key)}"]`);
  (again || found).focus({ preventScroll: Boolean(again) });
}

// Arrow keys walk through the rows of the list; Enter opens, as everywhere, what has the focus.
box.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest(".pairs tbody tr");
  if (!step || !event.target.closest(".pairs, .frame") || !box.querySelector(".pairs")) return;
  const rows = [...box.querySelectorAll(".pairs tbody tr")];
  const next = rows[Math.min(rows.length - 1, Math.max(0, (row ? rows.indexOf(row) : -1) + step))];
  const target = next?.querySelector("a");
  if (!target) return;
  event.preventDefault();
  target.focus();
});

watch("value", draw);
draw();
