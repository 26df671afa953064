// Draws a table of text: {caption, headers, rows, numeric, places}. `places` names the sentences [side, index] a row
// speaks of; a click on it, or arrow keys, select the first, and it is marked while one of them is selected.
let rows = [];

const send = (side, index) =>
  document.dispatchEvent(new CustomEvent("sentence", { detail: { side, index, from: "chart" } }));

function cell(tag, text, number) {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = number ? "number" : text.length > 20 ? "text" : "";
  return node;
}

function draw() {
  const box = element.querySelector(".table-box");
  const value = props.value;
  box.replaceChildren();
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", value?.caption || "Table");
  rows = [];
  if (!value || !value.rows.length) return;
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.textContent = value.caption;
  const head = table.createTHead().insertRow();
  value.headers.forEach((text, k) => {
    const node = cell("th", text, value.numeric.includes(k));
    node.scope = "col";
    head.append(node);
  });
  const body = table.createTBody();
  value.rows.forEach((texts, i) => {
    const row = body.insertRow();
    row.append(...texts.map((text, k) => cell("td", text, value.numeric.includes(k))));
    const places = value.places[i] || [];
    if (places.length) {
      row.className = "place";
      row.addEventListener("click", () => send(...places[0]));
    }
    rows.push([row, places]);
  });
  box.append(table);
  const node = document.querySelector('.s[aria-selected="true"]');
  if (node) mark(Number(node.dataset.side), Number(node.dataset.index));
}

function mark(side, index) {
  for (const [row, places] of rows) row.classList.toggle("on", places.some(([s, i]) => s === side && i === index));
}

element.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const stops = rows.filter(([, places]) => places.length);
  if (event.key === "Escape") send(null, null);
  if (!step || !stops.length) return;
  event.preventDefault();
  const at = stops.findIndex(([row]) => row.classList.contains("on"));
  const [row, places] = stops[Math.min(stops.length - 1, Math.max(0, at + step))];
  send(...places[0]);
  row.scrollIntoView({ block: "nearest" });
});

document.addEventListener("sentence", function hear({ detail: { side, index } }) {
  if (!element.isConnected) return document.removeEventListener("sentence", hear); // drawn anew elsewhere
  mark(side, index);
});

watch("value", draw);
draw();
