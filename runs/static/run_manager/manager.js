// The Run Manager beyond its links and forms: select all, the count, opening a row, and a selection that survives a swap.
"use strict";
(() => {
  const boxes = () => [...document.querySelectorAll('#runs input[name="run"]')];
  const show = () => {
    const all = boxes(), chosen = all.filter((box) => box.checked);
    const count = document.getElementById("rm-count"), head = document.getElementById("rm-all"), error = document.getElementById("rm-error");
    if (count) count.textContent = chosen.length ? `${chosen.length} selected` : "";
    if (head) { head.checked = all.length > 0 && chosen.length === all.length; head.indeterminate = chosen.length > 0 && chosen.length < all.length; }
    return error;
  };
  document.addEventListener("change", (event) => {
    if (event.target.id === "rm-all") boxes().forEach((box) => { box.checked = event.target.checked; });
    if (event.target.id === "rm-all" || event.target.name === "run") show();
  });
  document.addEventListener("click", (event) => {
    const row = event.target.closest("#runs tr[data-href]");
    if (row && !event.target.closest("a, input, button, label, code") && !String(getSelection())) location.href = row.dataset.href;
  });
  let kept = new Set();
  document.addEventListener("htmx:beforeSwap", () => { kept = new Set(boxes().filter((box) => box.checked).map((box) => box.value)); });
  document.addEventListener("htmx:afterSettle", () => {
    boxes().forEach((box) => { if (kept.has(box.value)) box.checked = true; });
    const error = show();
    if (error) error.hidden = true;
  });
  const failed = () => { const error = document.getElementById("rm-error"); if (error) error.hidden = false; };
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:responseError", failed);
  show();
})();
