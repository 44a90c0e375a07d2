// The header of each page: / leads to the search, Escape closes a menu.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    const menu = document.querySelector("#header details[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    return;
  }
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const search = document.getElementById("rm-search") ?? document.getElementById("sm-search");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});
