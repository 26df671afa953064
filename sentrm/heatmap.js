// Draws a scored pair, or one response. Runs once when the component loads: `element` is its root, `props.value` its data.
// All data reaches the page through textContent and attributes set by name; nothing is parsed as markup.
const LAYOUTS = [["rows", "One a row"], ["flow", "Flowing text"]];
const PALETTES = [["RdBu", "Red–blue"], ["PuOr", "Orange–purple"]];
const RIGHT_TO_LEFT = /^\P{L}*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u; // the first letter is Hebrew, Arabic, …
const view = { layout: "", palette: "RdBu", diff: "on" }; // no layout until one is chosen: the unit's own
const uid = `s${Math.random().toString(36).slice(2, 8)}`; // of this heatmap on its page
let sides = []; // per response: its sentences' data and nodes
let unit = "sentence"; // what stands in a sentence's place: sentence, segment, token or response
let shown = null; // the node the detail panel speaks of
let pinned = false;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function add(parent, ...children) {
  for (const child of children) if (child) parent.appendChild(child);
  return parent;
}

function drawVerdict(verdict) {
  const box = make("div", "verdict");
  box.setAttribute("role", "group"); // no landmark: a page may hold several heatmaps
  box.setAttribute("aria-label", "Verdict");
  const score = (name, text) =>
    add(make("div", `score score-${name.toLowerCase()}`), make("small", "", `${name} · score`), make("b", "", text));
  const track = make("div", "track");
  const fill = make("i");
  fill.style.width = `${100 * verdict.probability}%`;
  add(track, fill);
  track.setAttribute("aria-hidden", "true");
  const middle = add(make("div", "middle"), make("b", "words", verdict.words), track, make("small", "", verdict.margin));
  return add(box, score("A", verdict.scores[0]), middle, score("B", verdict.scores[1]));
}

// Why what was asked for last was not done; what is shown stays.
function drawAlert() {
  element.querySelector(".live .message")?.remove();
  const message = make("p", "message", props.alert[1]);
  message.setAttribute("role", "alert");
  element.querySelector(".live").prepend(message);
  message.scrollIntoView({ block: "nearest" });
}

function drawFindings(lines) {
  const box = add(make("div", "findings"), make("div", "checks"));
  for (const line of lines) add(box, make("p", "", line));
  return box;
}

// What was found out about this value after it was drawn.
const found = (name) => (props[name]?.turn === props.value.turn ? props[name]?.found : undefined);

// Name, words, whether it is a warning of each.
function drawChecks() {
  const box = element.querySelector(".checks");
  if (!box) return;
  box.replaceChildren();
  for (const [name, words, warning] of found("checks") || []) {
    add(box, add(make("span", warning ? "check warning" : "check"), make("b", "", name), make("span", "", words)));
  }
}

function drawLegend(legend) {
  const box = make("div", "legend");
  const ramp = make("div", "ramp");
  ramp.setAttribute("aria-hidden", "true");
  for (let k = 0; k < 7; k++) add(ramp, make("i", `c${k}`));
  const ticks = make("div", "ticks");
  for (const tick of legend.ticks) add(ticks, make("span", "", tick));
  const weight = make("div", "key-weight");
  const sample = add(make("span", "bar"), make("i"));
  sample.setAttribute("aria-hidden", "true");
  sample.firstChild.style.width = "100%";
  const marks = make("div", "marks");
  for (const mark of ["0", "even", "3 × even"]) add(marks, make("span", "", mark));
  add(weight, make("span", "key-label", `bar: weight of a ${unit}`), sample, marks);
  return add(box, add(make("div", "key-reward"), make("span", "key-label", legend.label), add(make("div", "scale"), ramp, ticks)), weight);
}

function drawSwitches(root) {
  const bar = make("div", "switches");
  for (const [key, name, choices] of [["layout", "Layout", LAYOUTS], ["palette", "Colours", PALETTES]]) {
    if (key === "layout" && unit === "response") continue; // one block either way
    if (key === "palette" && props.value.blind) continue;
    const group = make("div", "switch");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", name);
    for (const [value, label] of choices) {
      const button = make("button", "", label);
      button.type = "button";
      button.dataset[key] = value;
      button.setAttribute("aria-pressed", String(root.dataset[key] === value));
      button.addEventListener("click", () => {
        view[key] = value;
        root.dataset[key] = value;
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      });
      add(group, button);
    }
    add(bar, group);
  }
  if (props.value.compared) {
    const button = make("button", "", "Word diff");
    button.type = "button";
    button.dataset.diff = "";
    button.title = "Underlined: words that the sentence most like it in the other response has not. Dotted edge: no sentence there is like it.";
    const press = () => {
      root.dataset.diff = view.diff;
      button.setAttribute("aria-pressed", String(view.diff === "on"));
    };
    button.addEventListener("click", () => {
      view.diff = view.diff === "on" ? "off" : "on";
      press();
    });
    press();
    add(bar, add(make("div", "switch"), button));
  }
  return bar;
}

function drawSentence(data, side, index) {
  const node = make("div", data.class === undefined ? "s plain" : `s c${data.class}`);
  if (data.code) node.classList.add("code");
  if (data.only) node.classList.add("only");
  if (data.item && unit !== "response") node.classList.add("item");
  node.setAttribute("role", "option");
  node.setAttribute("aria-selected", "false");
  node.setAttribute("aria-label", data.label);
  node.tabIndex = index === 0 ? 0 : -1;
  node.dataset.side = side;
  node.dataset.index = index;
  const text = make("span", "t");
  for (const [part, kind] of data.parts || [[data.text]]) text.append(kind ? make("span", kind, part) : part);
  text.dir = "auto";
  text.id = `${uid}-${side}-${index}`;
  node.setAttribute("aria-describedby", text.id);
  if (props.value.blind) return add(node, add(make("span", "c"), text));
  const number = make("span", "n", data.reward);
  const bar = add(make("span", data.over ? "bar over" : "bar"), make("i"));
  bar.firstChild.style.width = `${data.bar}%`;
  return add(node, add(make("span", "c"), text, number), bar);
}

function drawSide(data, side, running) {
  const card = make("article", "card");
  const name = data.name ? `esponse ${data.name}` : "esponse"; // without its first letter, R or r
  card.setAttribute("aria-label", `R${name}`);
  const head = add(make("h2"), make("span", "", `R${name}`), make("span", "meta", data.meta));
  const box = make("div", running ? "sentences running" : "sentences");
  box.setAttribute("role", "listbox");
  const units = unit === "response" ? "" : `${unit[0].toUpperCase()}${unit.slice(1)}s of r`;
  box.setAttribute("aria-label", `${units || "R"}${name}`);
  const nodes = [];
  let line = null;
  data.sentences.forEach((sentence, index) => {
    if (!line || (sentence.gap > 0 && !running)) {
      line = make("div", `line gap${line ? sentence.gap : 0}`);
      line.setAttribute("role", "presentation");
      line.dir = RIGHT_TO_LEFT.test(sentence.text) ? "rtl" : "ltr";
      if (!running) line.style.setProperty("--indent", sentence.indent);
      add(box, line);
    } else if (!running) {
      line.append(" ");
    }
    const node = drawSentence(sentence, side, index);
    nodes.push(node);
    if (running) line.append(sentence.lead, node, sentence.trail);
    else add(line, node);
  });
  sides[side] = { data, nodes };
  add(card, head, box);
  if (data.tail) {
    const tail = add(make("div", "tail"), make("b", "", data.tail_note), make("div", "tail-text", data.tail));
    tail.lastChild.dir = "auto";
    tail.lastChild.tabIndex = 0;
    tail.lastChild.setAttribute("role", "region");
    tail.lastChild.setAttribute("aria-label", `The part of r${name} that was not read`);
    add(card, tail);
  }
  if (props.value.blind) return card;
  const term = data.prompt_term;
  const rest = make("div", "rest");
  const line1 = `prompt term ${term.reward} × weight ${term.weight} = ${term.contribution}`;
  const line2 = `${unit === "response" ? unit : `${unit}s`} ${data.sum.sentences}, prompt ${data.sum.prompt}, score ${data.sum.score}`;
  return add(card, add(rest, make("span", "", line1), make("span", "", line2)));
}

function drawDetail() {
  const box = make("div", "detail");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `${unit[0].toUpperCase()}${unit.slice(1)} detail`);
  return add(box, drawHint());
}

function drawHint() {
  const keys = unit === "response" ? "" : ", arrow keys move through it";
  const more = props.value.editable ? ` A pinned ${unit} can be dropped, edited, moved.` : "";
  return make("p", "hint", `Point at a ${unit} for its numbers; click or press Enter to pin it. Tab reaches a response${keys}.${more}`);
}

function showDetail(node) {
  if (shown) shown.classList.remove("on");
  shown = node;
  node.classList.add("on");
  const data = dataOf(node);
  const box = element.querySelector(".detail");
  if (!box) return;
  const field = (name, value, more) => {
    const cell = add(make("div", "field"), make("small", "", name), make("span", "", value));
    return more ? add(cell, make("em", "", more)) : cell;
  };
  const lost = found("left_out")?.[node.dataset.side][node.dataset.index];
  const quote = add(make("div", "field quote"), make("small", "", pinned ? `${data.title} · pinned, Esc releases` : data.title), make("span", "", data.text));
  quote.lastChild.dir = "auto";
  box.classList.add("open");
  box.replaceChildren(
    quote,
    field("reward", data.exact, data.above),
    field("weight", data.weight, data.even),
    field("contribution", data.contribution, lost ? `weight × reward; left out ${lost}` : "weight × reward"),
    field("value before → after", data.value, data.tokens),
  );
  if (props.value.editable) add(box, pinned || node === document.activeElement ? drawActions(node) : make("div", "actions"));
}

const placeOf = (node) => [Number(node.dataset.side), Number(node.dataset.index)];
const dataOf = (node) => sides[node.dataset.side].data.sentences[node.dataset.index];

// Others on the page, charts for one, hear which sentence is selected.
function tell(node) {
  const [side, index] = node ? placeOf(node) : [null, null];
  document.dispatchEvent(new CustomEvent("sentence", { detail: { side, index, from: "text" } }));
}

function select(node) {
  for (const other of element.querySelectorAll('.s[aria-selected="true"]')) other.setAttribute("aria-selected", "false");
  pinned = Boolean(node);
  if (node) node.setAttribute("aria-selected", "true");
  if (node || shown) showDetail(node || shown);
}

function pin(node) {
  select(node);
  tell(node || document.activeElement.closest?.(".s"));
}

// Quietly where `pin` follows, which tells.
function focusSentence(node, quiet) {
  for (const other of sides[node.dataset.side].nodes) other.tabIndex = -1;
  node.tabIndex = 0;
  select(null);
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "nearest" });
  if (quiet) return;
  showDetail(node);
  tell(node);
}

// The first Escape lets go of a pinned sentence, the next puts its numbers away.
function release() {
  if (pinned) {
    pin(null);
    if (document.activeElement === document.body) shown.focus({ preventScroll: true }); // it was on a button of the panel
    return;
  }
  shown?.classList.remove("on");
  shown = null;
  element.querySelector(".detail.open")?.replaceChildren(drawHint());
  element.querySelector(".detail.open")?.classList.remove("open");
}

function render() {
  const value = props.value;
  const root = element.querySelector(".pair-heatmap");
  root.dataset.layout = view.layout || value?.layout || (value?.running ? "flow" : "rows");
  root.dataset.palette = view.palette;
  root.dataset.diff = view.diff;
  shown = null;
  pinned = false;
  sides = [];
  let live = root.querySelector(".live");
  if (!live) {
    live = make("div", "live");
    live.setAttribute("aria-live", "polite");
    add(root, live);
  }
  while (root.children.length > 1) root.lastChild.remove();
  if (!value) return live.replaceChildren();
  if (value.message) {
    const message = make("p", "message", value.message);
    message.setAttribute("role", "alert");
    return live.replaceChildren(message);
  }
  const started = performance.now();
  unit = value.unit;
  root.dataset.unit = unit;
  live.replaceChildren();
  if (value.said) add(live, make("p", "said", value.said));
  if (value.verdict) add(live, drawVerdict(value.verdict));
  if (value.findings) add(root, drawFindings(value.findings));
  if (value.notices.length) {
    const notices = make("ul", "notices");
    for (const notice of value.notices) add(notices, make("li", "", notice));
    add(live, notices);
  }
  const pair = make("div", "pair");
  value.sides.forEach((side, index) => add(pair, drawSide(side, index, value.running)));
  if (value.compact) add(root, pair);
  else if (value.blind) add(root, add(make("div", "tools"), drawSwitches(root)), pair);
  else add(root, add(make("div", "tools"), drawLegend(value.legend), drawSwitches(root)), pair, drawDetail());
  drawChecks();
  if (value.editable) {
    add(root, drawHistory(value.editable));
    rest();
    resume();
  }
  if (!shown) tell(null);
  root.dataset.drawn = (performance.now() - started).toFixed(1); // milliseconds
  document.dispatchEvent(new CustomEvent("drawn"));
}

const sentenceOf = (event) => event.target.closest(".s");

let mouse = ""; // where it was last
const placed = ({ screenX, screenY }) => `${screenX} ${screenY}`;
element.addEventListener("mousemove", (event) => (mouse = placed(event)));
element.addEventListener("mouseover", (event) => {
  const node = sentenceOf(event);
  if (mouse === placed(event) && sentenceOf({ target: document.activeElement })) return; // the keys scrolled the page
  if (node && !pinned) showDetail(node);
});
element.addEventListener("focusin", (event) => {
  const node = sentenceOf(event);
  if (node && !pinned) showDetail(node);
});
element.addEventListener("click", (event) => {
  const node = sentenceOf(event);
  if (!node) return;
  const unpin = node.getAttribute("aria-selected") === "true";
  focusSentence(node, !unpin);
  if (!unpin) pin(node);
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return release();
  const node = sentenceOf(event);
  if (!node || event.ctrlKey || event.metaKey) return;
  if ((props.value.editable && operateByKey(event, node)) || event.altKey) return;
  const { nodes } = sides[node.dataset.side];
  const index = Number(node.dataset.index);
  const moves = { ArrowDown: index + 1, ArrowRight: index + 1, ArrowUp: index - 1, ArrowLeft: index - 1, Home: 0, End: nodes.length - 1 };
  if (event.key === "Enter" || event.key === " ") {
    pin(node.getAttribute("aria-selected") === "true" ? null : node);
  } else if (event.key in moves) {
    focusSentence(nodes[Math.min(nodes.length - 1, Math.max(0, moves[event.key]))]);
  } else {
    return;
  }
  event.preventDefault();
});

document.addEventListener("sentence", function hear({ detail: { side, index, from } }) {
  if (!element.isConnected) return document.removeEventListener("sentence", hear); // drawn anew elsewhere
  if (from === "text") return;
  if (index === null) return release();
  const node = sides[side]?.nodes[index];
  if (node) {
    for (const other of sides[side].nodes) other.tabIndex = other === node ? 0 : -1;
  }
  select(node);
});

watch("value", render);
watch("checks", drawChecks);
watch("left_out", () => {
  if (shown && !element.querySelector(".detail").contains(document.activeElement)) showDetail(shown);
});
watch("alert", drawAlert);
render();
