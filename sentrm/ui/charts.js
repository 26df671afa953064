// Ties the charts to the text. A sentence is named by the event "sentence" on document, detail {side, index, from}:
// side 0 is A, 1 is B, index counts from 0; index null releases. Charts send it on a click or an arrow key and show
// what others send. gr.Plot makes a new graph node for every value, so new ones are looked for; of those that it took
// away the window still knows, until plotly is told.
(() => {
  const OTHERS = -1; // the point of the sentences that share a bar
  const REST = 1000; // milliseconds after which nothing draws on a graph that is gone
  const PAUSE = 60; // milliseconds of rest before charts are marked: who moves through the text waits for none
  let chosen = null;
  let marking = 0;

  const graphs = () => [...document.querySelectorAll(".js-plotly-plot")].filter((graph) => graph.data);
  const send = (side, index) =>
    document.dispatchEvent(new CustomEvent("sentence", { detail: { side, index, from: "chart" } }));

  // Every point of a graph that stands for one sentence: [trace, point, side, index], side by side in reading order.
  function points(graph) {
    const found = graph.data.flatMap((trace, t) => (trace.customdata || []).map((at, p) => [t, p, ...(at || [])]));
    return found.filter(([, , , index]) => Number.isInteger(index)).sort((a, b) => a[2] - b[2] || a[3] - b[3]);
  }

  function mark(graph) {
    const all = points(graph);
    const is = (wanted) => all.find(([, , side, index]) => side === chosen.side && index === wanted);
    const point = chosen && (is(chosen.index) || is(OTHERS));
    graph.data.forEach((trace, t) => {
      if (!trace.customdata) return;
      const selected = point ? (point[0] === t ? [point[1]] : []) : null;
      window.Plotly.restyle(graph, { selectedpoints: [selected] }, [t]);
    });
  }

  function tie(graph) {
    if (graph.dataset.tied || !graph.on) return;
    graph.dataset.tied = "true";
    graph.tabIndex = 0;
    graph.setAttribute("role", "group");
    graph.setAttribute("aria-label", `${graph.layout.meta?.name || "Chart"}, arrow keys select`);
    graph.on("plotly_click", ({ points: [{ customdata }] }) => {
      if (customdata && customdata[1] !== null && customdata[1] !== OTHERS) send(...customdata);
    });
    graph.addEventListener("keydown", (event) => {
      if (event.key === "Escape") send(null, null);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const all = points(graph).filter(([, , , index]) => index !== OTHERS);
      const now = all.findIndex(([, , side, index]) => chosen && side === chosen.side && index === chosen.index);
      const next = all[Math.min(all.length - 1, Math.max(0, now + step))];
      if (next) send(next[2], next[3]);
    });
    if (chosen) mark(graph);
  }

  // What is chosen, in words, for those whose eyes are on a chart.
  function say() {
    const line = document.querySelector(".chosen");
    if (!line) return;
    const node = chosen?.from === "chart" && document.querySelector(`#heatmap .s[data-side="${chosen.side}"][data-index="${chosen.index}"]`);
    line.textContent = node ? `${"AB"[chosen.side]} · ${node.getAttribute("aria-label")}: ${node.querySelector(".t").textContent}` : "";
  }

  document.addEventListener("sentence", ({ detail }) => {
    chosen = detail.index === null ? null : detail;
    say();
    clearTimeout(marking);
    marking = setTimeout(() => graphs().forEach(mark), PAUSE);
  });
  new MutationObserver((changes) => {
    graphs().forEach(tie);
    const gone = changes.flatMap(({ removedNodes }) => [...removedNodes]).filter((node) => !node.isConnected && node.querySelectorAll);
    const drawn = gone.flatMap((node) => [node, ...node.querySelectorAll(".js-plotly-plot")]).filter((node) => node._fullLayout);
    if (drawn.length) setTimeout(() => drawn.forEach((graph) => window.Plotly.purge(graph)), REST);
  }).observe(document, { subtree: true, childList: true });
})();
