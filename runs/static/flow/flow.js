// FlowView's picture for mouse and keys. Every change is a form post to the server, which answers with the parts that changed; nothing of the graph is kept here.
"use strict";
(() => {
  const flow = document.getElementById("flow");
  if (!flow) return;
  const $ = (id) => document.getElementById(id);
  const nodes = () => [...flow.querySelectorAll(".fl-graph .rm-node")];
  const nodeOf = (name) => flow.querySelector(`.fl-graph .rm-node[data-node="${CSS.escape(name)}"]`);
  const edges = () => [...flow.querySelectorAll(".fl-edge")];
  const view = flow.classList.contains("fl-list") ? "list" : "picture";
  let added = "", alone = false, dirty = false, typed = false, busy = false, doing = null, leaving = "", zoom = 1, byKeys = null;
  if (view === "picture" && matchMedia("(max-width: 640px)").matches && !new URLSearchParams(location.search).has("view")) {
    const list = new URL(location.href);  // a picture needs room
    list.searchParams.set("view", "list");
    location.replace(list);
    return;
  }
  flow.classList.add("fl-scripted");

  // --- talking to the server: one request after the other, each with the newest revision, so that nothing that was done quickly is lost; but a form
  // that was filled in before somebody else's change came stays a change of what it showed ---------------------------------------------------------
  const queue = [];
  const where = (name) => $("fl-where")?.querySelector(`[name="${name}"]`).value ?? "";
  const ask = (verb, path, values, focus, revision) => { queue.push({ verb, path, values, focus, revision }); next(); };
  const next = async () => {
    if (busy || !queue.length) return;
    busy = true;
    doing = queue.shift();
    const { verb, path, values, focus } = doing, revision = doing.revision ??= where("revision");
    const all = values && { csrfmiddlewaretoken: $("fl-tools").elements.csrfmiddlewaretoken.value, view, node: where("node"), ...values, revision };
    let answer = null;
    const shown = values ? path : `${path}${path.includes("?") ? "&" : "?"}shown=${where("revision")}`;
    const noted = (event) => { if (event.detail.elt === flow) answer = event.detail; };
    alone = false;  // until the answer says that nobody else has changed anything
    document.addEventListener("htmx:afterRequest", noted);
    await htmx.ajax(verb, shown, { source: "#flow", swap: "none", values: all }).catch(() => {});
    document.removeEventListener("htmx:afterRequest", noted);
    busy = false;
    doing = null;
    if (!alone && where("revision") !== revision) queue.forEach((each) => { each.revision ??= revision; });
    if (answer?.successful) answered(verb, path, answer, focus); else { queue.length = 0; leaving = ""; }
    next();
  };
  const answered = (verb, path, answer, focus) => {
    const asked = answer.xhr.getResponseHeader("HX-Retarget") && flow.querySelector("#fl-conflict h2");
    if (asked) { asked.focus(); asked.scrollIntoView({ block: "nearest" }); leaving = ""; return; }
    if (verb === "GET") { history.replaceState(null, "", path); mark(); }
    const bad = flow.querySelector("#fl-inspector .fl-bad");
    if (!$("fl-wrong").hidden) drop(); else if (!queue.length && !bad && !typed) { dirty = false; moved = null; }
    refocus(focus);
    if (document.activeElement === document.body) (bad?.querySelector("input, select, textarea") ?? nodeOf(chosen()) ?? $("fl-canvas"))?.focus({ preventScroll: true });
    if (leaving && !queue.length && !dirty) location.href = leaving;
  };
  const looking = (asked = [...queue, doing]) => asked.some((each) => each?.verb === "GET");  // a form that is on its way shows what was before
  const post = (values, focus, revision) => { if ($("fl-tools")) ask("POST", flow.dataset.edit, values, focus, revision); };
  const sent = (form, submitter) => {
    const values = { op: form.dataset.op, ...Object.fromEntries(new FormData(form, submitter)) };
    byKeys = null;
    typed = false;
    if (form.dataset.show || form.querySelector(".fl-bad") || looking()) values.show = "1";
    delete form.dataset.show;
    post(values, null, form.dataset.base);
    delete form.dataset.base;
  };
  flow.addEventListener("submit", (event) => {
    if (event.target.getAttribute("id") === "fl-tools") {
      event.preventDefault();
      post(event.submitter.name === "kind" ? { op: "add", kind: event.submitter.value } : { op: event.submitter.value }, "see");
    } else if (event.target.hasAttribute("data-send")) {
      event.preventDefault();
      sent(event.target, event.submitter);
    }
  });
  const chosen = () => flow.querySelector(".fl-chosen")?.dataset.node || "";
  const unfit = () => dirty && flow.querySelector("#fl-inspector .fl-bad");
  const look = (address, focus) => {
    if (unfit() && !confirm("What you wrote doesn't fit and was not saved. Leave it?")) return;
    ask("GET", address, null, focus);
  };
  const select = (name, focus) => name === where("node") && !busy ? refocus(focus) : look(`${flow.dataset.page}?view=${view}&node=${encodeURIComponent(name)}`, focus);
  document.body.addEventListener("flow-changed", (event) => { ({ node: added, alone } = event.detail); });
  const settle = () => {
    mark();
    scale();
    rove();
    if ($("fl-said") && $("fl-live").textContent !== $("fl-said").textContent) $("fl-live").textContent = $("fl-said").textContent;
  };
  const refocus = (asked) => {
    const name = ["new", "see"].includes(asked) ? added : asked;
    const target = name ? (name.startsWith("#") ? flow.querySelector(name) : nodeOf(name)) : null;
    if (asked !== "see" || document.activeElement === document.body) target?.focus();
    target?.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  document.addEventListener("htmx:afterSettle", settle);
  document.addEventListener("htmx:oobBeforeSwap", (event) => {  // who has gone on writing keeps the form; it is shown anew when that is saved
    const form = event.target.id === "fl-inspector" && typed && doing?.values && !looking(queue) && event.target.querySelector(SAVED);
    if (!form || form.dataset.op !== doing.values.op && form.elements.op?.value !== doing.values.op) return;
    event.preventDefault();
    form.dataset.show = "1";
    if (!alone) form.dataset.base ??= doing.revision;
    if (form.elements.node) form.elements.node.value = where("node");
  });
  document.addEventListener("htmx:oobAfterSwap", settle);
  const away = async (event) => {
    drop();
    const status = event.detail.xhr?.status, wrong = $("fl-wrong");
    if (!wrong) return;
    if (status === 403) await renew().catch(() => {});
    wrong.hidden = false;
    wrong.textContent = status === 401 ? "You are logged out; nothing was changed, and what you wrote is still here. Log in in another tab, then save again."
      : status === 403 ? "The server refused that; nothing was changed. If you have just logged in again, save once more."
      : status ? `That was refused (${status}); nothing was changed.` : "The server can't be reached; nothing was changed. Try again.";
  };
  const renew = async () => {  // a new login brings a new token
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const token = page.querySelector("#fl-tools [name=csrfmiddlewaretoken]")?.value;
    if (token) flow.querySelectorAll("[name=csrfmiddlewaretoken]").forEach((input) => { input.value = token; });
  };
  document.addEventListener("htmx:beforeOnLoad", (event) => {  // stay here, with what was written
    if ([401, 403].includes(event.detail.xhr.status)) { event.preventDefault(); away(event); }
  });
  document.addEventListener("htmx:sendError", away);
  document.addEventListener("htmx:responseError", away);
  const SAVED = "#fl-node, #fl-settings, #fl-edge";  // the forms that are saved by themselves
  flow.addEventListener("input", (event) => { if (event.target.closest(SAVED) || event.target.id === "fl-json") dirty = true; if (event.target.closest(SAVED)) typed = true; });
  flow.addEventListener("change", (event) => {
    const form = event.target.closest(SAVED);
    if (!form) return;
    if (/^(name-|unites)/.test(event.target.name)) form.dataset.show = "1";
    dirty = true;
    const row = event.target.closest(".fl-rows-of .fl-input");
    if (row) row.dataset.changed = "1"; else if (byKeys !== event.target) sent(form);
  });
  flow.addEventListener("pointerdown", () => { byKeys = null; });
  flow.addEventListener("keydown", (event) => {  // arrows walk through a list; what stands there at last counts
    if (!event.target.matches?.("select") || !event.target.closest(SAVED)) return;
    if (event.key === "Enter" && byKeys) { event.preventDefault(); sent(event.target.form); } else if (event.key !== "Tab") byKeys = event.target;
  });
  flow.addEventListener("focusout", (event) => {
    const row = event.target.closest(".fl-rows-of .fl-input");  // a row is saved when it is left: before, it isn't whole
    if (row?.dataset.changed && !row.contains(event.relatedTarget)) { delete row.dataset.changed; row.closest("form").dataset.show = "1"; sent(row.closest("form")); }
    else if (byKeys === event.target && dirty && !row) sent(byKeys.form);
  });
  $("fl-json")?.form.addEventListener("submit", () => { dirty = false; });
  document.addEventListener("click", (event) => {  // a link waits for what is being saved
    const link = event.target.closest("a[href]");
    if (!link || event.defaultPrevented || !busy || unfit() || event.ctrlKey || event.metaKey || event.shiftKey || link.target) return;
    event.preventDefault();
    leaving = link.href;
  });
  addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });

  // --- what is wrong, and how large it is drawn -----------------------------------------------------------------------
  const mark = () => {
    const now = where("node") || new URLSearchParams(location.search).get("node");
    nodes().forEach((node) => node.classList.toggle("fl-chosen", node.dataset.node === now));
    const wrong = new Set(JSON.parse($("fl-found")?.dataset.wrong || "[]"));
    nodes().forEach((node) => { node.classList.toggle("fl-wrong", wrong.has(node.dataset.node)); if (!wrong.has(node.dataset.node)) node.classList.remove("rm-wrong"); });
  };
  const SMALLEST = 0.1;  // below it nobody can read anything
  const svg = () => flow.querySelector(".fl-graph");
  const scale = () => {
    const box = svg()?.viewBox.baseVal;
    if (box) { svg().setAttribute("width", box.width * zoom); svg().setAttribute("height", box.height * zoom); }
  };
  const fit = () => { const box = svg()?.viewBox.baseVal, room = $("fl-canvas"); return box ? Math.max(SMALLEST, Math.min(1, (room.clientWidth - 4) / box.width, (room.clientHeight - 4) / box.height)) : 1; };
  flow.addEventListener("click", (event) => {
    const how = event.target.closest("[data-zoom]")?.dataset.zoom;
    if (!how) return;
    zoom = { in: Math.min(3, zoom * 1.25), out: Math.max(SMALLEST, zoom / 1.25), one: 1, fit: fit() }[how];
    scale();
  });

  // --- the palette ----------------------------------------------------------------------------------------------------
  const kinds = () => [...flow.querySelectorAll(".fl-kind")];
  const search = () => {
    const words = $("fl-search").value.toLowerCase().split(/\s+/);
    kinds().forEach((kind) => { kind.hidden = !words.every((word) => kind.dataset.words.toLowerCase().includes(word)); });
    flow.querySelectorAll(".fl-group").forEach((group) => { group.hidden = !group.querySelector(".fl-kind:not([hidden])"); });
    $("fl-none").hidden = kinds().some((kind) => !kind.hidden);
  };
  $("fl-search")?.addEventListener("input", search);
  $("fl-search")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const first = kinds().find((kind) => !kind.hidden);
    if (first) { $("fl-search").value = ""; search(); post({ op: "add", kind: first.value }, "new"); }
  });

  // --- the mouse: choose, move, connect -------------------------------------------------------------------------------
  const at = (event) => { const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg().getScreenCTM().inverse()); return [point.x, point.y]; };
  const corner = (node) => { const box = node.querySelector("rect"); return [Number(box.getAttribute("x")), Number(box.getAttribute("y")), Number(box.getAttribute("width")), Number(box.getAttribute("height"))]; };
  const curve = (x1, y1, x2, y2) => { const reach = x2 > x1 ? (x2 - x1) / 2 : Math.max(60, (x1 - x2) / 4); return `M${x1},${y1}C${x1 + reach},${y1} ${x2 - reach},${y2} ${x2},${y2}`; };
  const redraw = (name, dx, dy) => edges().filter((edge) => edge.dataset.start === name || edge.dataset.end === name).forEach((edge) => {
    const [a, b] = [nodeOf(edge.dataset.start), nodeOf(edge.dataset.end)].map(corner);
    const [ax, ay] = edge.dataset.start === name ? [dx, dy] : [0, 0], [bx, by] = edge.dataset.end === name ? [dx, dy] : [0, 0];
    edge.querySelectorAll("path").forEach((path) => path.setAttribute("d", curve(a[0] + a[2] + ax, a[1] + a[3] / 2 + ay, b[0] + bx, b[1] + b[3] / 2 + by)));
  });
  let drag = null, dragged = false, moved = null;
  const drop = () => {  // where nothing was saved, nothing has moved
    if (!moved) return;
    moved.removeAttribute("transform");
    redraw(moved.dataset.node, 0, 0);
    moved = null;
  };
  const canvas = $("fl-canvas");
  canvas?.addEventListener("dragstart", (event) => event.preventDefault());
  canvas?.addEventListener("pointerdown", (event) => {
    const node = event.target.closest(".rm-node");
    dragged = false;
    if (!node || event.button !== 0 || !$("fl-tools")) return;
    drag = { node, from: at(event), wire: event.target.closest(".fl-port") ? document.createElementNS("http://www.w3.org/2000/svg", "path") : null };
    if (drag.wire) { drag.wire.setAttribute("class", "fl-wire"); svg().append(drag.wire); }
  });
  addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = at(event), dx = x - drag.from[0], dy = y - drag.from[1];
    if (!dragged && Math.hypot(dx, dy) < 4) return;
    dragged = true;
    if (!drag.wire) { drag.node.setAttribute("transform", `translate(${dx},${dy})`); redraw(drag.node.dataset.node, dx, dy); return; }
    const [nx, ny, width, height] = corner(drag.node);
    drag.wire.setAttribute("d", curve(nx + width, ny + height / 2, x, y));
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".rm-node");
    nodes().forEach((node) => node.classList.toggle("fl-target", node === over && node !== drag.node));
  });
  addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { node, wire, from } = drag, [x, y] = at(event), [nx, ny] = corner(node);
    drag = null;
    wire?.remove();
    nodes().forEach((each) => each.classList.remove("fl-target"));
    if (!dragged) return;
    if (!wire) { moved = node; post({ op: "move", node: node.dataset.node, x: nx + x - from[0], y: ny + y - from[1] }); return; }
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest(".rm-node");
    if (over && over !== node) post({ op: "connect", start: node.dataset.node, end: over.dataset.node });
  });
  addEventListener("pointercancel", () => { drag?.wire?.remove(); moved = drag?.node; drop(); drag = null; });
  flow.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const node = event.target.closest(".fl-graph .rm-node"), edge = event.target.closest(".fl-edge"), go = event.target.closest("[data-go]");
    if (dragged && (node || edge)) { event.preventDefault(); dragged = false; return; }
    if (node) { event.preventDefault(); select(node.dataset.node); }
    else if (edge) { event.preventDefault(); look(edge.getAttribute("href"), event.detail === 0 ? "#fl-inspector h2" : null); }
    else if (event.target.closest("#fl-graph")) { event.preventDefault(); look(`${flow.dataset.page}?view=${view}`, "#fl-inspector h2"); }
    else if (event.target.closest("#fl-canvas") && chosen() && !dragged) look(`${flow.dataset.page}?view=${view}`);
    else if (go && svg()) { event.preventDefault(); nodeOf(go.dataset.go)?.scrollIntoView({ block: "nearest", inline: "nearest" }); select(go.dataset.go, "#fl-inspector h2"); }
  });

  // One stop of Tab for the nodes, and one for each edge of that node, whatever their number.
  const rove = (name) => {
    const here = nodeOf(name) ?? nodeOf(chosen()) ?? nodes()[0];
    nodes().forEach((node) => node.setAttribute("tabindex", node === here ? "0" : "-1"));
    edges().forEach((edge) => edge.setAttribute("tabindex", [edge.dataset.start, edge.dataset.end].includes(here?.dataset.node) ? "0" : "-1"));
  };
  canvas?.addEventListener("focusin", (event) => { const node = event.target.closest(".rm-node"); if (node) rove(node.dataset.node); });

  // --- keys -----------------------------------------------------------------------------------------------------------
  const step = (node, key) => {
    const name = node.dataset.node, [x, y] = corner(node);
    const ends = key === "ArrowRight" ? edges().filter((edge) => edge.dataset.start === name).map((edge) => edge.dataset.end)
      : key === "ArrowLeft" ? edges().filter((edge) => edge.dataset.end === name).map((edge) => edge.dataset.start) : null;
    const near = ends ? ends.map(nodeOf) : nodes().filter((each) => (key === "ArrowDown" ? corner(each)[1] > y : corner(each)[1] < y));
    const far = (each) => { const [ex, ey] = corner(each); return Math.abs(ey - y) + (ends ? 0 : 3 * Math.abs(ex - x)); };
    return near.sort((a, b) => far(a) - far(b))[0];
  };
  const MOVES = { ArrowLeft: [-22, 0], ArrowRight: [22, 0], ArrowUp: [0, -22], ArrowDown: [0, 22] };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select"), node = event.target.closest?.(".fl-graph .rm-node"), ctrl = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (ctrl && key === "s" && $("fl-tools")) { event.preventDefault(); event.target.closest("form")?.requestSubmit(); return; }
    if (ctrl && !typing && key === "z") { event.preventDefault(); post({ op: event.shiftKey ? "redo" : "undo" }, node?.dataset.node); return; }
    if (ctrl && !typing && key === "d" && (node || chosen())) { event.preventDefault(); post({ op: "duplicate", node: node?.dataset.node || chosen() }, "new"); return; }
    if (key === "Escape" && chosen() && !typing) { look(`${flow.dataset.page}?view=${view}`, "#fl-canvas"); return; }
    const edge = event.target.closest?.(".fl-edge");
    if (edge && (key === "Delete" || key === "Backspace")) { event.preventDefault(); post({ op: "disconnect", start: edge.dataset.start, end: edge.dataset.end }, "new"); return; }
    if (!node || ctrl) return;
    const name = node.dataset.node;
    if (MOVES[key]) {
      event.preventDefault();
      if (!event.altKey) { const next = step(node, key); next?.focus(); next?.scrollIntoView({ block: "nearest", inline: "nearest" }); return; }
      const [x, y] = corner(node);
      post({ op: "move", node: name, x: x + MOVES[key][0], y: y + MOVES[key][1] }, name);
    } else if (key === "n") { event.preventDefault(); $("fl-search").closest("details").open = true; select(name, "#fl-search"); $("fl-search").focus(); }
    else if (key === "e") { event.preventDefault(); select(name, "#fl-end"); }
    else if (key === "Enter" || key === " ") { event.preventDefault(); select(name, "#fl-inspector h2"); }
    else if (key === "Delete" || key === "Backspace") { event.preventDefault(); post({ op: "delete", node: name }, "new"); }
  });
  document.addEventListener("copy", (event) => {
    if (String(getSelection()) || event.target.closest?.("input, textarea") || !$("fl-copied") || !chosen()) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", $("fl-copied").textContent);
  });
  document.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text/plain");
    if (event.target.closest?.("input, textarea") || !svg() && !$("fl-picture") || !text.trim().startsWith("{")) return;
    event.preventDefault();
    post({ op: "paste", json: text }, "new");
  });
  if (matchMedia("(max-width: 720px)").matches) flow.querySelectorAll(".fl-palette details").forEach((each) => { each.open = false; });
  zoom = svg() ? Math.max(0.75, fit()) : 1;
  settle();
  const first = nodeOf(chosen()) ?? nodes().sort((a, b) => corner(a)[0] - corner(b)[0])[0], seen = canvas?.getBoundingClientRect(), box = first?.getBoundingClientRect();
  if (box) canvas.scrollBy(box.x + box.width / 2 - seen.x - seen.width / 2, box.y + box.height / 2 - seen.y - seen.height / 2);
})();
