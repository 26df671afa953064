// What the fields of a page have to do with what is shown below them: Ctrl+Enter or Cmd+Enter scores, wherever the
// focus is; an edit marks what is shown as old until it is drawn anew; what was typed outlives a reload of the page.
(() => {
  const FIELDS = ".typed textarea";
  let edited = false; // since the answer that is awaited was asked for
  let address = null; // what opens that answer: a query, "" for none

  window.touched = () => {
    edited = true;
    document.body.classList.add("stale");
    show("");
  };
  window.asked = (query) => {
    edited = false;
    address = query;
  };
  window.chosen = (query) => { // gradio's drop-downs say it twice
    if (!edited && (address ?? location.search) === query) return;
    touched();
    asked(query);
  };
  window.kept = () => location.search || sessionStorage.getItem(location.pathname) || "";

  const show = (query) => {
    if (location.search !== query) history.replaceState(history.state, "", location.pathname + query);
  };

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.target.closest(".composer")) return;
    event.preventDefault();
    event.stopPropagation();
    document.querySelector("#score")?.click();
  }, true);
  document.addEventListener("input", (event) => {
    if (event.target.matches(FIELDS)) touched();
  });
  document.addEventListener("drawn", () => {
    if (!edited) document.body.classList.remove("stale");
    if (address !== null) show(edited ? "" : address);
    address = null;
  });
  window.addEventListener("pagehide", () => {
    const texts = [...document.querySelectorAll(FIELDS)].map((field) => field.value);
    if (texts.some(Boolean)) sessionStorage.setItem(location.pathname, JSON.stringify(texts));
  });
})();
