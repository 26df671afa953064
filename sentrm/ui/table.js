// Draws a table of text: {caption, headers, rows, numeric, places}. `places` names the sentences [side, index] a row
// speaks of; a click on it selects the first, and it is marked while one of them is selected.
let rows = [];

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
      row.addEventListener("click", () => {
        const [side, index] = places[0];
        document.dispatchEvent(new CustomEvent("sentence", { detail: { side, index, from: "chart" } }));
      });
    }
    rows.push([row, places]);
  });
  box.append(table);
}

document.addEventListener("sentence", ({ detail: { side, index } }) => {
  for (const [row, places] of rows) row.classList.toggle("on", places.some(([s, i]) => s === side && i === index));
});

watch("value", draw);
draw();
