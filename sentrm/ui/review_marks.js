// Sentences that the reader calls good or bad.
const MARKS = [["good", "✓ Good", "g"], ["bad", "✗ Bad", "b"]];
const WALK = { j: 1, k: -1 };
let marks = new Map(); // "side index" -> good or bad

const listed = () => [...marks].map(([place, mark]) => [...place.split(" ").map(Number), mark]);

function markShown(mark) {
  if (!shown || !desk?.pair) return;
  const place = placeOf(shown).join(" ");
  if (marks.get(place) === mark) marks.delete(place);
  else marks.set(place, mark);
  drawMarks();
  if (!desk.own) say(`${dataOf(shown).title}${marks.has(place) ? ` marked ${mark}` : ", mark taken back"}.`);
  draft();
}

function drawMarks() {
  for (const { nodes, data } of sides) {
    nodes.forEach((node, index) => {
      const mark = marks.get(`${node.dataset.side} ${index}`);
      node.classList.toggle("marked", Boolean(mark));
      node.querySelector(".mark")?.remove();
      if (mark) {
        const badge = make("span", `mark ${mark}`, mark === "good" ? "✓" : "✗");
        badge.setAttribute("aria-hidden", "true");
        node.querySelector(".c").prepend(badge);
      }
      node.setAttribute("aria-label", data.sentences[index].label + (mark ? `, marked ${mark}` : ""));
    });
  }
  drawSelected();
}

function drawSelected() {
  const mark = shown && marks.get(placeOf(shown).join(" "));
  $("of").textContent = shown ? `Selected: ${dataOf(shown).title}` : `Select a ${unit} to mark it`;
  for (const [id] of MARKS) {
    const node = $(`do-${id}`);
    node.disabled = !shown || !desk?.pair;
    node.setAttribute("aria-pressed", String(mark === id));
  }
}

// To the sentence that follows, from the last of A to the first of B.
function walk(step) {
  const all = sides.flatMap(({ nodes }) => [...nodes]);
  const at = all.includes(shown) ? all.indexOf(shown) + step : Math.min(0, step);
  if (all.length) focusSentence(all.at(at % all.length));
}
