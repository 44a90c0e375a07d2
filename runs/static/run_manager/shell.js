// The frame of each page: / leads to the search, Escape closes a menu, and times stay true.
"use strict";
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.cookie = `browser_time_zone=${zone}; path=/admin/; max-age=31536000; SameSite=Lax`;

// As `relative` of graphs/web/formats.py.
const units = [
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];
setInterval(() => {
  document.querySelectorAll("time[data-relative]").forEach((time) => {
    const age = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const [unit, symbol] = units.find(([unit]) => Math.abs(age) >= unit) ?? [];
    const text = unit ? `${Math.floor(Math.abs(age) / unit)} ${symbol}` : "";
    time.textContent = !text || (age > -5 && age < 0) ? "now" : age > 0 ? `${text} ago` : `in ${text}`;
  });
}, 15000);

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
