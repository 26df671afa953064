// What can be carried away: a click on a button asks for one kind, and the answer, a new value, is saved or copied.
const KINDS = [["html", "HTML"], ["svg", "SVG"], ["png", "PNG"], ["json", "JSON"], ["csv", "CSV"], ["link", "Copy link"]];
const box = element.querySelector(".carry");
const said = document.createElement("span");
said.setAttribute("role", "status");

for (const [kind, words] of KINDS) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words;
  button.dataset.kind = kind;
  button.addEventListener("click", () => trigger("carry", { kind }));
  box.append(button);
}
box.append(said);

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A picture in dots, drawn from the one in lines, twice as fine as the screen.
function draw(svg, name) {
  const image = new Image();
  const source = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  const giveUp = () => (said.textContent = "The picture is too large; take SVG.");
  image.onerror = giveUp;
  image.onload = () => {
    const canvas = document.createElement("canvas");
    const scale = Math.min(2, 16000 / image.height);
    canvas.width = image.width * scale;
    canvas.height = image.height * scale;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => (blob ? save(blob, name) : giveUp()), "image/png");
    URL.revokeObjectURL(source);
  };
  image.src = source;
}

async function copy(query, more) {
  const address = `${location.origin}${location.pathname}${query}`;
  history.replaceState(history.state, "", address);
  try {
    await navigator.clipboard.writeText(address);
    said.textContent = `The link is copied. It holds the texts themselves; nothing is stored.${more}`;
  } catch {
    said.textContent = `The link stands in the address bar. It holds the texts themselves; nothing is stored.${more}`;
  }
}

watch("value", () => {
  const value = props.value;
  said.textContent = value?.message || "";
  if (!value || value.message) return;
  if (value.query) copy(value.query, value.more);
  else if (value.name.endsWith(".png")) draw(value.text, value.name);
  else save(new Blob([value.text], { type: `${value.type};charset=utf-8` }), value.name);
});
