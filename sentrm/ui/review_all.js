// One verdict on all pairs of the queue, asked twice.
const ALL = [["agree", "The label is right"], ["flip", "The label is wrong"], ["tie", "Tie"], ["both_bad", "Both bad"], ["flag", "Flag"], ["skip", "Skip"]];

function drawAll() {
  const box = make("details", "all");
  const sure = make("div", "sure");
  const doubt = () => sure.replaceChildren(); // what was to be confirmed is another thing now
  const verdict = choose("all", ALL, doubt);
  const reason = field("input", "all-reason", 200);
  reason.addEventListener("input", doubt);
  const first = button("Mark all …", "", () => {
    const { total } = desk.progress;
    const words = ALL.find(([id]) => id === verdict.value)[1].toLowerCase();
    const yes = button(`Mark ${total.toLocaleString("en")} pairs`, "", () => {
      doubt();
      later(() => ask("all", { verdict: verdict.value, reason: reason.value, count: total }));
    }, "primary");
    const no = button("Cancel", "", () => {
      doubt();
      first.focus();
    });
    const text = `Mark all ${total.toLocaleString("en")} pairs of this queue: ${words}? Your own votes on them are replaced; one undo takes all of it back.`;
    sure.replaceChildren(make("p", "", text), yes, no);
    yes.focus();
  }, "first");
  sure.setAttribute("role", "group");
  sure.setAttribute("aria-label", "Confirm");
  return add(box, make("summary", "", "Mark the whole queue at once"), add(make("div", "why"), labelled("Verdict", verdict), labelled("Reason", reason), first), sure);
}
