// Buttons and fields of the desk, made of heatmap.js's `make` and `add`.
function button(words, key, press, className) {
  const node = make("button", className, words);
  node.type = "button";
  if (key) {
    add(node, make("kbd", "", key)).setAttribute("aria-keyshortcuts", key);
    node.lastChild.setAttribute("aria-hidden", "true");
  }
  node.addEventListener("click", press);
  return node;
}

function choose(name, options, changed) {
  const node = make("select");
  node.name = name;
  fill(node, options);
  if (changed) node.addEventListener("change", () => changed(node.value));
  return node;
}

function fill(node, options) {
  node.replaceChildren(...options.map(([value, words]) => Object.assign(make("option", "", words), { value })));
}

const labelled = (words, node, className) => add(make("label", className), make("span", "", words), node);

function tick(words, changed) {
  const node = make("input");
  node.type = "checkbox";
  node.addEventListener("change", () => changed(node.checked));
  return add(make("label", "tick"), node, make("span", "", words));
}

function field(tag, name, most) {
  const node = make(tag);
  node.name = name;
  node.maxLength = most;
  return node;
}
