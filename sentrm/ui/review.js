// The desk around a pair under review. It stands behind heatmap.js, which draws the pair, and the other review_*.js,
// and shares their names.
// What the reader does goes out as the event "act"; its answer is a new value, or `said`, why nothing was done, and then
// everything typed stays. The value's `desk` is what review_desk.py says; text reaches the page by textContent alone.
const CHOICES = [["a", "A is better", "1"], ["b", "B is better", "2"], ["tie", "Tie", "3"], ["both_bad", "Both bad", "4"], ["skip", "Skip", "s"], ["flag", "Flag", "f"]];
const STEPS = [["undo", "Undo", "u"], ["redo", "Redo", "r"], ["next", "Next", "n"]];
const ORDERS = [["suspects", "Suspects first"], ["random", "Random"], ["filter", "As in the data"]];
const REASONS = ["wrong facts", "does not do what was asked", "refuses without need", "harmful", "too long", "hard to read", "no real difference", "slip of the annotator"];
const PATIENCE = 10000; // milliseconds until an answer counts as lost
let desk = null; // the newest answer's
let waiting = null; // what has no answer yet
let next = []; // what is done once it has: answers come in the order of their questions
let alone = true; // nothing was drawn yet

const $ = (name) => element.querySelector(`.${name}`);
const kept = (store, key, value) => { // storage may be forbidden
  try {
    if (value === undefined) return store.getItem(key) ?? "";
    store.setItem(key, value);
  } catch {
    return "";
  }
};
let keys = kept(localStorage, "sentrm-review-keys") !== "off";

// What stays in its place while pairs come and go, so that the focus does.
function build() {
  const name = field("input", "annotator", 200);
  name.autocomplete = "off";
  name.addEventListener("change", () => call(name.value));
  const overlap = field("input", "overlap", 4);
  Object.assign(overlap, { type: "number", min: 1, max: 1000 });
  overlap.addEventListener("change", () => turn("overlap", Math.min(1000, Math.max(1, Math.round(overlap.value) || 1))));
  const shortcuts = tick("Keys", (on) => {
    keys = on;
    kept(localStorage, "sentrm-review-keys", on ? "on" : "off");
    element.querySelector(".desk").classList.toggle("keyless", !on);
  });
  shortcuts.querySelector("input").checked = keys;
  element.querySelector(".desk").classList.toggle("keyless", !keys);
  const settings = add(
    make("div", "settings"),
    labelled("Reviewer", name, "who"),
    labelled("Reviewer", choose("names", [], call), "who-of"),
    add(make("p", "who-is"), make("span", "", "Reviewer"), make("b")),
    labelled("Audit", choose("audit", [], (value) => turn("audit", value))),
    labelled("Order", choose("order", ORDERS, (value) => turn("order", value))),
    labelled("Votes a pair", overlap, "narrow"),
    tick("Blind: scores and label only after the vote", (on) => turn("blind", on ? "1" : "0")),
    shortcuts,
  );
  const bar = make("progress");
  bar.setAttribute("aria-label", "Pairs done");
  add($("desk-top"), settings, make("div", "chips"), add(make("div", "course"), bar, make("span")));

  const choices = add(make("div", "choices"), ...CHOICES.map(([id, words, key]) => button(words, key, () => press(id), `do-${id}`)));
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Verdict");
  const steps = add(make("div", "steps"), ...STEPS.map(([id, words, key]) => button(words, key, () => press(id), `do-${id}`)));
  const marking = add(make("div", "marking"), make("span", "of"), ...MARKS.map(([id, words, key]) => button(words, key, () => press(id), `do-${id}`)));
  add(marking, add(make("span", "hint"), ...Object.keys(WALK).map((key) => make("kbd", "", key)), make("span", "", "next, previous")));
  marking.setAttribute("role", "group");
  marking.setAttribute("aria-label", "Mark the selected sentence");
  const status = make("p", "status");
  status.setAttribute("role", "status");
  const trouble = make("div", "trouble");
  trouble.setAttribute("role", "alert");
  add($("desk-bar"), trouble, status, add(make("div", "bar-row"), choices, steps), marking);

  const reason = field("input", "reason", 200);
  const list = make("datalist");
  list.id = `${uid}-reasons`;
  fill(list, REASONS.map((one) => [one, one]));
  reason.setAttribute("list", list.id);
  reason.autocomplete = "off";
  const comment = field("textarea", "comment", 20000);
  comment.rows = 2;
  for (const node of [reason, comment]) node.addEventListener("input", draft);
  add($("desk-more"), make("div", "revealed"), add(make("div", "why"), labelled("Reason", reason), list, labelled("Comment", comment)), drawAll());
}

const later = (action) => (waiting ? next.push(action) : action());

function turn(name, value) {
  later(() => {
    const query = new URLSearchParams(desk?.query || location.search);
    query.set(name, value);
    if (name === "audit") query.delete("where"); // another audit may have other columns
    go(query.toString());
  });
}

function go(query) {
  later(() => {
    history.pushState(history.state, "", `${location.pathname}?${query}`);
    ask("open");
  });
}

function call(name) {
  later(() => {
    kept(localStorage, "sentrm-annotator", name);
    ask("open", { annotator: name });
  });
}

const holder = () => `review ${desk.audit} ${desk.annotator.name} ${desk.pair}`;
const typed = (name) => element.querySelector(`[name="${name}"]`);

function draft() {
  if (!desk?.pair) return;
  kept(sessionStorage, holder(), JSON.stringify({ ...written(), seen: desk.seen }));
  if (unsaved()) say("Not saved yet: Next saves it, or your verdict again.");
}

const written = () => ({ reason: typed("reason").value, comment: typed("comment").value, marks: listed() });
const plain = ({ reason, comment, marks: some }) => JSON.stringify([reason.trim(), comment, [...some].sort()]);
const unsaved = () => Boolean(desk?.own) && plain(desk.own) !== plain(written()); // what was added to one's vote

function press(id) {
  if (MARKS.some(([mark]) => mark === id)) return markShown(id);
  if (STEPS.some(([step]) => step === id)) {
    if (!desk) return;
    later(() => (id === "next" ? goOn() : ask(id)));
  } else if (!waiting && desk?.pair) {
    vote(id, desk.seen); // never on a pair that is not here yet
  }
}

function goOn() {
  if (desk.pair && !desk.own) return tellTrouble({ error: "Vote first, or skip." });
  if (!unsaved()) return ask("next");
  const stays = desk.blind && desk.own.choice !== "skip"; // else the answer is the next pair
  vote(desk.own.choice, desk.seen);
  if (stays) next.push(() => ask("next"));
}

function vote(choice, seen) {
  draft();
  ask("vote", { choice, seen, ...written() });
}

function ask(what, more = {}) {
  const annotator = desk?.annotator.name || kept(localStorage, "sentrm-annotator") || typed("annotator").value;
  settled();
  const timer = setTimeout(() => lost("No answer came. What you wrote is still here: try again, or load the page again."), PATIENCE);
  const slow = setTimeout(async () => {
    say("Waiting for the answer …");
    const { status } = await fetch("./gradio_api/login_check").catch(() => ({})); // no network: there is no answer either, said above
    if (status === 401 && waiting?.timers[0] === timer) lost("You are logged out. Log in again in another tab, then try again: what you wrote is still here.");
  }, 700);
  const query = what === "open" ? location.search : `?${desk.query}`;
  waiting = { more, timers: [timer, slow] };
  tellTrouble(null);
  trigger("act", { do: what, query, annotator, pair: desk?.pair || "", ...more });
}

function lost(error) {
  settled();
  next = [];
  say("");
  tellTrouble({ error });
  wake();
}

function settled() {
  waiting?.timers.forEach(clearTimeout);
  waiting = null;
}

function tellTrouble(said) {
  const box = $("trouble");
  box.replaceChildren();
  if (!said) return;
  add(box, make("p", "", said.error));
  if (!said.newer) return;
  const { more } = said;
  add(
    box,
    button("Vote again anyway", "", () => vote(more.choice, said.newer.seen), "again"),
    button("Show that vote", "", () => go(`${desk.query}&id=${encodeURIComponent(desk.pair)}`)),
  );
}

const say = (words) => ($("status").textContent = words);

function drawTop() {
  const { annotator } = desk;
  const from = annotator.fixed ? "is" : annotator.names.length ? "of" : "free";
  element.querySelector(".settings").dataset.who = from;
  $("who-is").lastChild.textContent = annotator.name;
  if (from === "of") {
    fill(typed("names"), [["", "Choose your name"], ...annotator.names.map((one) => [one, one])]);
    typed("names").value = annotator.name;
  }
  if (document.activeElement !== typed("annotator")) typed("annotator").value = annotator.name;
  fill(typed("audit"), desk.audits.map((one) => [one, one]));
  for (const name of ["audit", "order", "overlap"]) typed(name).value = desk[name];
  element.querySelector(".settings .tick input").checked = desk.blind;
  const chips = $("chips");
  chips.replaceChildren(make("span", "", desk.filters.length ? "Only pairs with" : "All pairs of the audit."));
  desk.filters.forEach((words, i) => {
    const chip = button(words, "", () => go(desk.without[i]), "chip");
    chip.setAttribute("aria-label", `Take away the filter ${words}`);
    add(chips, add(chip, make("span", "", " ×")));
  });
  const link = make("a", "", "Choose pairs on the Dataset page");
  link.href = `./${props.inspect ? "dataset" : ""}?audit=${encodeURIComponent(desk.audit)}${desk.where && `&${desk.where}`}`;
  add(chips, link);
  $("course").hidden = !desk.progress;
  if (!desk.progress) return;
  const { done, left, total } = desk.progress;
  Object.assign(element.querySelector("progress"), { max: total || 1, value: total - left });
  const taken = total - left - done;
  $("course").lastChild.textContent = `${done.toLocaleString("en")} done · ${left.toLocaleString("en")} left${taken ? ` · ${taken.toLocaleString("en")} have their votes from others` : ""}`;
}

function drawPrompt() {
  const box = $("desk-prompt");
  box.hidden = !desk.prompt;
  box.replaceChildren(make("h2", "", "Prompt"));
  const text = make("div", "prompt-text");
  for (const [role, words] of desk.prompt || []) {
    const part = add(make("div", "part"), role && make("b", "", role), make("div", "", words));
    part.lastChild.dir = "auto";
    add(text, part);
  }
  text.tabIndex = 0;
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", "Prompt");
  add(box, text);
  if (text.children.length > 1) text.scrollTop = text.scrollHeight; // what was asked last
}

const labelWords = () => (desk.revealed.label === "tie" ? "tie" : `${desk.revealed.label} is better`);

function drawRevealed() {
  const box = $("revealed");
  const found = desk.revealed;
  box.replaceChildren();
  box.hidden = !found;
  if (!found) return;
  const facts = make("dl");
  const fact = (name, words) => add(facts, add(make("div"), make("dt", "", name), make("dd", "", words)));
  if (desk.own) fact("You", desk.own.words);
  fact("The label", labelWords());
  fact("The model", props.value.verdict.words);
  add(box, facts);
  for (const words of found.why) add(box, make("p", "note", words));
  for (const [name, words, ...more] of found.votes) {
    add(box, add(make("p", "other"), make("b", "", name), make("span", "", [words, ...more].filter(Boolean).join(" · "))));
  }
  if (props.inspect) {
    const link = make("a", "", "Open in Inspect");
    link.href = `./?audit=${encodeURIComponent(desk.audit)}&id=${encodeURIComponent(desk.pair)}`;
    add(box, link);
  }
}

// The buttons as they can be pressed now.
function wake() {
  for (const [id] of CHOICES) {
    const node = $(`do-${id}`);
    node.disabled = !desk?.pair;
    node.setAttribute("aria-pressed", String(desk?.own?.choice === id));
  }
  $("do-undo").disabled = !desk?.undo;
  $("do-redo").disabled = !desk?.redo;
  $("do-next").disabled = !(desk?.own || (!desk?.pair && desk?.progress?.left));
  $("first").disabled = !desk?.progress?.total;
}

function drawDesk() {
  const before = desk;
  if (!props.value?.desk) return;
  settled();
  desk = props.value.desk;
  Object.assign(element.querySelector(".desk").dataset, { pair: desk.pair || "", annotator: desk.annotator.name });
  const here = before?.pair === desk.pair && before?.audit === desk.audit && before?.annotator.name === desk.annotator.name;
  drawTop();
  if (!here) drawPrompt();
  drawRevealed();
  if (!here || Boolean(before.own) !== Boolean(desk.own) || before.seen !== desk.seen) {
    const drafted = JSON.parse((desk.pair && kept(sessionStorage, holder())) || "null");
    const said = (drafted?.seen === desk.seen && drafted) || desk.own || drafted || { reason: "", comment: "", marks: [] };
    typed("reason").value = said.reason;
    typed("comment").value = said.comment;
    marks = new Map(said.marks.map(([side, index, mark]) => [`${side} ${index}`, mark]));
  }
  drawMarks();
  wake();
  $("sure").replaceChildren();
  tellTrouble(null);
  const known = desk.known ? "You have seen this pair's scores before: a vote now does not count as blind." : "";
  const found = desk.own && desk.revealed;
  const told = found ? `The label: ${labelWords()}. The model: ${props.value.verdict.words}.` : "";
  say([desk.said, told, known].filter(Boolean).join(" ") || (desk.pair ? "Which response is better?" : ""));
  const asked = new URLSearchParams(location.search).get("id");
  const open = asked && (asked === desk.pair || !desk.annotator.name); // who comes by a link may have to say their name first
  const query = `?${desk.query}${open ? `&id=${encodeURIComponent(asked)}` : ""}`;
  if (location.search !== query && !next.length) history.replaceState(history.state, "", location.pathname + query);
  if (!here && !alone && desk.pair) {
    if (element.getBoundingClientRect().top < 0) $("desk-prompt").scrollIntoView({ block: "start" });
  }
  alone = false;
  while (next.length && !waiting) next.shift()();
}

document.addEventListener("keydown", function hear(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", hear); // drawn anew elsewhere
  if (!keys || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], [role=dialog]")) return;
  const key = event.key.toLowerCase();
  const found = [...CHOICES, ...STEPS, ...MARKS].find((one) => one[2] === key);
  if (!found && !WALK[key]) return;
  event.preventDefault();
  if (found) press(found[0]);
  else walk(WALK[key]);
});
for (const name of ["mouseover", "focusin", "click", "keydown"]) element.addEventListener(name, drawSelected);
window.addEventListener("popstate", function hear() {
  if (!element.isConnected) return window.removeEventListener("popstate", hear);
  later(() => ask("open"));
});

// Keys go to the pair again once a field is done with: a choice that is made, but not one on the way to another by arrows.
let arrowing = false;
element.addEventListener("keydown", (event) => {
  const field = event.target.closest("input:not([type=checkbox]), textarea, select");
  arrowing = event.key.startsWith("Arrow");
  if (!field || event.isComposing) return;
  if (event.key === "Escape" || (event.key === "Enter" && field.matches("input"))) field.blur();
});
element.addEventListener("pointerdown", () => (arrowing = false));
element.addEventListener("change", (event) => {
  if (event.target.closest(".settings select") && !arrowing) event.target.blur();
});

build();
wake();
watch("value", drawDesk);
watch("said", () => {
  const { more } = waiting || {};
  settled();
  next = [];
  say("");
  if (desk) drawTop(); // settings as they are, whatever was asked meanwhile
  tellTrouble({ ...props.said, more });
  wake();
});
if (props.value?.desk) drawDesk();
else ask("open");
