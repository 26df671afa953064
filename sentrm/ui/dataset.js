// What the list of the Dataset page does beside being drawn: it keeps the address, and hears what narrows it, from
// panels and charts. gr.Plot makes a new graph node for every value, so new ones are looked for.
let asked = null; // the address that was asked for last; null before

function ask(query) {
  asked = query;
  trigger("go", { query });
}

function open(query) {
  if (query === location.search) return;
  history.pushState(history.state, "", location.pathname + query);
  ask(query);
}

// Filters of the same columns are replaced; those that are set already are taken away.
function narrow(filters) {
  const query = new URLSearchParams(location.search);
  const set = query.getAll("where");
  const wanted = filters.map((one) => JSON.stringify(one));
  const columns = filters.map(([column]) => column);
  const others = set.filter((one) => !columns.includes(JSON.parse(one)[0]));
  const off = wanted.every((one) => set.some((other) => JSON.stringify(JSON.parse(other)) === one));
  query.delete("where");
  query.delete("at");
  for (const one of [...others, ...(off ? [] : wanted)]) query.append("where", one);
  open(`?${query}`);
}

function search(text) {
  const query = new URLSearchParams(location.search);
  const others = query.getAll("where").filter((one) => JSON.parse(one)[0] !== "text");
  query.delete("where");
  query.delete("at");
  for (const one of others) query.append("where", one);
  if (text) query.append("where", JSON.stringify(["text", "contains", text]));
  open(`?${query}`);
}

document.addEventListener("goto", ({ detail }) => open(detail));
document.addEventListener("narrow", ({ detail }) => narrow(detail));
document.addEventListener("seek", ({ detail }) => search(detail));
window.addEventListener("popstate", () => ask(location.search));

watch("value", () => {
  const { query, push, asked: answered } = props.value || {};
  if (query === undefined) return;
  if (answered !== undefined && answered !== asked) return ask(location.search); // it was left before the answer came
  if (query !== location.search) {
    history[push ? "pushState" : "replaceState"](history.state, "", location.pathname + query);
  }
  const pair = new URLSearchParams(query).get("pair");
  if (pair && answered) setTimeout(() => document.querySelector("#heatmap")?.scrollIntoView({ block: "start" }), 150);
  for (const graph of graphs()) mark(graph);
});

// Charts: `layout.meta` holds the filters of the points, or the bins of a column that a stretch can be chosen of.
const graphs = () => [...document.querySelectorAll("#facts .js-plotly-plot")].filter((graph) => graph.layout?.meta);

// One trace's points that narrow, as [point, filters].
function stops(graph) {
  const { narrow: filters, brush, bins } = graph.layout.meta;
  if (brush) return bins.map((bin, k) => [k, stretch(brush, [bin])]);
  return (filters[0] || []).map((one, k) => [k, one]).filter(([, one]) => one);
}

function stretch(column, bins) {
  const low = bins.some(([end]) => end === null) ? null : Math.min(...bins.map(([end]) => end));
  const high = bins.some(([, end]) => end === null) ? null : Math.max(...bins.map(([, end]) => end));
  if (low === null && high === null) return null;
  if (low === null) return [[column, "<=", high]];
  return high === null ? [[column, ">=", low]] : [[column, "between", [low, high]]];
}

// Shades what the filters leave of the column that a chart is of.
function mark(graph) {
  const { brush, bins, ends } = graph.layout.meta;
  if (!brush || !graph.data.length) return;
  const range = props.value?.ranges?.[brush];
  const inside = range ? bins.map(([low, high], k) => [k, low ?? -Infinity, high ?? Infinity])
    .filter(([, low, high]) => high > (range[0] ?? -Infinity) && low < (range[1] ?? Infinity)).map(([k]) => k) : [];
  const shade = { type: "rect", yref: "paper", y0: 0, y1: 1, line: { width: 0 }, layer: "below", opacity: 0.16 };
  const colour = getComputedStyle(document.querySelector(".gradio-container")).getPropertyValue("--color-accent");
  const shapes = inside.length
    ? [{ ...shade, x0: ends[inside[0]][0], x1: ends[inside[inside.length - 1]][1], fillcolor: colour.trim() }]
    : [];
  window.Plotly.relayout(graph, { shapes, selections: [] });
}

function tie(graph) {
  if (graph.dataset.narrows || !graph.on) return;
  graph.dataset.narrows = "true";
  graph.tabIndex = 0;
  graph.setAttribute("role", "group");
  const { name, brush } = graph.layout.meta;
  const keys = stops(graph).length ? ", arrow keys choose, Enter filters the list" : "";
  graph.setAttribute("aria-label", name + keys);
  let at = -1;
  const take = (k) => {
    const found = stops(graph).find(([point]) => point === k);
    if (found?.[1]) narrow(found[1]);
  };
  graph.on("plotly_click", ({ points: [point] }) => {
    if (brush ? point.curveNumber === 0 : graph.layout.meta.narrow.length) take(point.pointNumber);
  });
  graph.on("plotly_selected", (event) => {
    const points = (event?.points || []).filter(({ curveNumber }) => curveNumber === 0);
    if (!brush || !points.length) return;
    const filters = stretch(brush, points.map(({ pointNumber }) => graph.layout.meta.bins[pointNumber]));
    if (filters) narrow(filters);
  });
  graph.addEventListener("keydown", (event) => {
    const all = stops(graph);
    if (event.key === "Enter" && at >= 0) take(all[at][0]);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !all.length) return;
    event.preventDefault();
    at = Math.min(all.length - 1, Math.max(0, at + step));
    window.Plotly.Fx.hover(graph, [{ curveNumber: 0, pointNumber: all[at][0] }]);
  });
  const touched = matchMedia("(pointer: coarse)").matches; // there a stroke scrolls the page
  if (touched && graph.layout.dragmode) window.Plotly.relayout(graph, { dragmode: false });
  mark(graph);
}

new MutationObserver(() => graphs().forEach(tie)).observe(document, { subtree: true, childList: true });
graphs().forEach(tie);
