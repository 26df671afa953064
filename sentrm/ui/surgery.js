// What a reader can do to the sentences of an editable heatmap. It stands before heatmap.js and shares its names.
// An action goes out as the event "edit"; its answer is a new value, or an alert where it was refused.
const OPERATIONS = [ // what can be done to a sentence: name, words, keys as shown
  ["drop", "Drop", "Delete"],
  ["edit", "Edit", "E"],
  ["insert", "Insert after", "I"],
  ["duplicate", "Duplicate", "D"],
  ["up", "Move up", "Alt ↑"],
  ["down", "Move down", "Alt ↓"],
  ["split", "Split here", "S"],
  ["join", "Join with next", "J"],
];
const KEYS = { Delete: "drop", Backspace: "drop", e: "edit", i: "insert", d: "duplicate", s: "split", j: "join" };
let target = null; // what the awaited answer is to select: {side, index}, and the node that was acted on
let waiting = []; // what was asked for meanwhile: steps, and names of what to do to that same sentence
let timers = [];

function allowed(op, node) {
  const [side, index] = placeOf(node);
  const last = sides[side].nodes.length - 1;
  if (unit === "response") return op === "edit" || op === "split";
  return { drop: last > 0, up: index > 0, down: index < last, join: index < last }[op] ?? true;
}

function drawActions(node) {
  const box = make("div", "actions");
  box.setAttribute("role", "toolbar");
  box.setAttribute("aria-label", `What to do with ${dataOf(node).title}`);
  for (const [op, words, keys] of OPERATIONS) {
    if (!allowed(op, node)) continue;
    const button = add(make("button", "action"), make("span", "", words), make("kbd", "", keys));
    button.type = "button";
    button.dataset.op = op;
    button.lastChild.setAttribute("aria-hidden", "true");
    button.addEventListener("click", () => operate(op, node));
    add(box, button);
  }
  return box;
}

function operate(op, node) {
  if (!node || !allowed(op, node)) return;
  if (target) {
    if (node === target.node) waiting.push(op); // another may stand elsewhere when the answer is there
    return;
  }
  const [side, index] = placeOf(node);
  if (op === "edit" || op === "insert") return compose(op, node);
  if (op === "split") return chooseCut(node);
  if (op === "up" || op === "down") {
    const to = index + (op === "up" ? -1 : 1);
    return send({ op: "move", side, sentence: index, to }, { node, side, index: to });
  }
  send({ op, side, sentence: index }, { node, side, index: op === "duplicate" ? index + 1 : index });
}

function send(action, then) {
  if (target) return;
  target = then;
  timers.forEach(clearTimeout);
  trigger("edit", { ...action, turn: props.value.turn });
}

// A field in the detail panel in place of the actions; Enter applies it, Esc closes it.
function panel(node, title, field, apply) {
  if (!pinned) select(node);
  const form = make("form", "composer");
  const label = make("label", "", title);
  label.append(field);
  const ok = make("button", "action primary", "Apply");
  ok.type = "submit";
  const cancel = make("button", "action", "Cancel");
  cancel.type = "button";
  const close = () => {
    showDetail(node);
    node.focus({ preventScroll: true });
  };
  cancel.addEventListener("click", close);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply(close);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && !event.shiftKey && event.target === field && !event.isComposing) apply(close);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  element.querySelector(".detail .actions, .detail .composer").replaceWith(add(form, label, add(make("div", "actions"), ok, cancel)));
  field.focus({ preventScroll: true });
  node.scrollIntoView({ block: "nearest" });
}

function compose(op, node) {
  const [side, index] = placeOf(node);
  const data = dataOf(node);
  const field = make("textarea");
  field.rows = 2;
  field.dir = "auto";
  field.value = op === "edit" ? data.text : "";
  field.placeholder = op === "edit" ? "" : `A new ${unit}`;
  panel(node, op === "edit" ? `Edit ${data.title}` : `Insert after ${data.title}`, field, (close) => {
    if (!field.value.trim()) return field.focus();
    if (op === "edit" && field.value === data.text) return close();
    send({ op, side, sentence: index, text: field.value }, { node, side, index: op === "edit" ? index : index + 1 });
  });
}

// Where a sentence is to be split: a mark between its words that arrow keys and clicks move.
function chooseCut(node) {
  const [side, index] = placeOf(node);
  const data = dataOf(node);
  const words = data.text.match(/\s*\S+/gu) || [];
  const pieces = words.length > 1 ? words : [...data.text];
  if (pieces.length < 2) return;
  const field = make("div", "cutter");
  field.tabIndex = 0;
  field.dir = "auto";
  field.setAttribute("role", "slider");
  field.setAttribute("aria-label", `Split ${data.title} before`);
  field.setAttribute("aria-valuemin", 1);
  field.setAttribute("aria-valuemax", pieces.length - 1);
  const spans = pieces.map((piece) => make("span", "", piece));
  add(field, ...spans);
  let at = 0;
  const put = (k) => {
    spans[at].classList.remove("cut");
    at = Math.min(pieces.length - 1, Math.max(1, k));
    spans[at].classList.add("cut");
    field.setAttribute("aria-valuenow", at);
    field.setAttribute("aria-valuetext", pieces[at].trim());
  };
  put(Math.round(pieces.length / 2));
  field.addEventListener("click", (event) => {
    const k = spans.indexOf(event.target);
    if (k > 0) put(k); // not beside the words
  });
  field.addEventListener("keydown", (event) => {
    const k = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 1, End: pieces.length - 1 }[event.key];
    if (k === undefined) return;
    event.preventDefault();
    put(k);
  });
  panel(node, "Split before the marked word; arrow keys or a click move the mark", field, () =>
    send({ op: "split", side, sentence: index, at: [...pieces.slice(0, at).join("")].length }, { node, side, index }),
  );
}

function drawHistory(editable) {
  const bar = make("div", "history");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Steps");
  const entries = [
    ["Undo", "Ctrl Z", { op: "undo" }, editable.undo],
    ["Redo", "Ctrl Shift Z", { op: "redo" }, editable.redo],
    ["Reset", "", { op: "reset" }, editable.reset],
    ["Copy A over B", "", { op: "copy", side: 0 }, editable.copy],
    ["Copy B over A", "", { op: "copy", side: 1 }, editable.copy],
  ];
  for (const [words, keys, action, can] of entries) {
    const button = add(make("button", "action"), make("span", "", words), keys && make("kbd", "", keys));
    button.type = "button";
    button.dataset.op = action.op;
    button.disabled = !can;
    if (keys) button.lastChild.setAttribute("aria-hidden", "true");
    button.addEventListener("click", () => step(action));
    add(bar, button);
  }
  return bar;
}

// The selection stays where it is, as far as there is still a sentence; so does the focus, on a sentence or a button.
function step(action) {
  if (target) return waiting.push(action);
  const node = element.contains(document.activeElement) && document.activeElement.closest(".s");
  const [side, index] = node || pinned ? placeOf(node || shown) : [null, null];
  const buttons = [...element.querySelectorAll(".history button")];
  send(action, { side, index, button: buttons.indexOf(document.activeElement) });
}

// Whether a key pressed on a sentence was one of an operation.
function operateByKey(event, node) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const op = event.altKey ? { ArrowUp: "up", ArrowDown: "down" }[key] : KEYS[key];
  if (!op) return false;
  event.preventDefault();
  operate(op, node);
  return true;
}

// What takes longer is asked for when the reader pauses: an action never waits for it.
function rest() {
  timers.forEach(clearTimeout);
  const edited = Boolean(target);
  const { turn } = props.value;
  timers = [
    setTimeout(() => trigger("settled"), edited ? 250 : 0),
    setTimeout(() => trigger("idle", { turn }), edited ? 1000 : 0),
  ];
}

// Back to where the reader was before the action whose answer this is, and on to what was asked for meanwhile.
function resume() {
  const was = target;
  target = null;
  if (!was) return;
  const nodes = sides[was.side]?.nodes || [];
  const node = nodes[Math.min(was.index, nodes.length - 1)];
  const buttons = [...element.querySelectorAll(".history button")];
  if (document.activeElement === document.body) { // else the reader writes elsewhere by now
    if (was.button >= 0) [buttons[was.button], ...buttons].find((button) => !button.disabled)?.focus({ preventScroll: true });
    else if (node) focusSentence(node, true);
  }
  if (node) pin(node);
  const { undo, redo } = props.value.editable;
  if (!undo && !redo) waiting = []; // another pair was opened meanwhile
  const next = waiting.shift();
  if (typeof next === "string") operate(next, node);
  else if (next) step(next);
}

watch("alert", () => {
  target = null;
  waiting = [];
  if (props.value.editable) rest();
});

document.addEventListener("keydown", function undo(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", undo); // drawn anew elsewhere
  if (!props.value?.editable || !(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "z") return;
  if (event.target.closest("input, textarea, [contenteditable]")) return; // there it undoes what was typed
  const op = event.shiftKey ? "redo" : "undo";
  event.preventDefault();
  if (target || props.value.editable[op]) step({ op });
});
