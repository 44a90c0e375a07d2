// The picture on the page: its nodes and edges, the selected and the faulty ones, and its zoom.
export const flow = document.getElementById("flow");
export const $ = (id) => document.getElementById(id);
export const view = flow.classList.contains("fl-list") ? "list" : "picture";
export const where = (name) => $("fl-where")?.querySelector(`[name="${name}"]`).value ?? "";
export const nodes = () => [...flow.querySelectorAll(".fl-graph .rm-node")];
export const nodeOf = (name) =>
  flow.querySelector(`.fl-graph .rm-node[data-node="${CSS.escape(name)}"]`);
export const edges = () => [...flow.querySelectorAll(".fl-edge")];
export const chosen = () => flow.querySelector(".fl-chosen")?.dataset.node || "";
export const svg = () => flow.querySelector(".fl-graph");
export const canvas = $("fl-canvas");

export const mark = () => {
  const now = where("node") || new URLSearchParams(location.search).get("node");
  nodes().forEach((node) => node.classList.toggle("fl-chosen", node.dataset.node === now));
  const wrong = new Set(JSON.parse($("fl-found")?.dataset.wrong || "[]"));
  nodes().forEach((node) => {
    node.classList.toggle("fl-wrong", wrong.has(node.dataset.node));
    if (!wrong.has(node.dataset.node)) node.classList.remove("rm-wrong");
  });
};

// Tab stops once at the nodes, and once at each edge of the current node.
export const rove = (name) => {
  const here = nodeOf(name) ?? nodeOf(chosen()) ?? nodes()[0];
  nodes().forEach((node) => node.setAttribute("tabindex", node === here ? "0" : "-1"));
  edges().forEach((edge) =>
    edge.setAttribute(
      "tabindex",
      [edge.dataset.start, edge.dataset.end].includes(here?.dataset.node) ? "0" : "-1",
    ),
  );
};
canvas?.addEventListener("focusin", (event) => {
  const node = event.target.closest(".rm-node");
  if (node) rove(node.dataset.node);
});

// --- zoom ---
const SMALLEST = 0.1; // below it the labels can't be read
const fit = () => {
  const box = svg()?.viewBox.baseVal;
  return box
    ? Math.max(
        SMALLEST,
        Math.min(1, (canvas.clientWidth - 4) / box.width, (canvas.clientHeight - 4) / box.height),
      )
    : 1;
};
let zoom = svg() ? Math.max(0.75, fit()) : 1;
const scale = () => {
  const box = svg()?.viewBox.baseVal;
  if (box) {
    svg().setAttribute("width", box.width * zoom);
    svg().setAttribute("height", box.height * zoom);
  }
};
flow.addEventListener("click", (event) => {
  const how = event.target.closest("[data-zoom]")?.dataset.zoom;
  if (!how) return;
  zoom = { in: Math.min(3, zoom * 1.25), out: Math.max(SMALLEST, zoom / 1.25), one: 1, fit: fit() }[
    how
  ];
  scale();
});

export const settle = () => {
  mark();
  scale();
  rove();
  if ($("fl-said") && $("fl-live").textContent !== $("fl-said").textContent)
    $("fl-live").textContent = $("fl-said").textContent;
};
document.addEventListener("htmx:afterSettle", settle);
document.addEventListener("htmx:oobAfterSwap", settle);

// --- positions, and dragging ---
export const corner = (node) =>
  ["x", "y", "width", "height"].map((name) =>
    Number(node.querySelector("rect").getAttribute(name)),
  );
const curve = (x1, y1, x2, y2) => {
  const reach = x2 > x1 ? (x2 - x1) / 2 : Math.max(60, (x1 - x2) / 4);
  return `M${x1},${y1}C${x1 + reach},${y1} ${x2 - reach},${y2} ${x2},${y2}`;
};
const redraw = (name, dx, dy) =>
  edges()
    .filter((edge) => edge.dataset.start === name || edge.dataset.end === name)
    .forEach((edge) => {
      const [a, b] = [nodeOf(edge.dataset.start), nodeOf(edge.dataset.end)].map(corner);
      const [ax, ay] = edge.dataset.start === name ? [dx, dy] : [0, 0],
        [bx, by] = edge.dataset.end === name ? [dx, dy] : [0, 0];
      edge
        .querySelectorAll("path")
        .forEach((path) =>
          path.setAttribute(
            "d",
            curve(a[0] + a[2] + ax, a[1] + a[3] / 2 + ay, b[0] + bx, b[1] + b[3] / 2 + by),
          ),
        );
    });
export const wired = (node, x, y) => {
  const [nx, ny, width, height] = corner(node);
  return curve(nx + width, ny + height / 2, x, y);
};
export const shift = (node, dx, dy) => {
  if (dx || dy) node.setAttribute("transform", `translate(${dx},${dy})`);
  else node.removeAttribute("transform");
  redraw(node.dataset.node, dx, dy);
};
let moved = null;
export const drop = (node = null) => {
  moved = node; // the node stays where it was dropped until the server answers
};
export const back = () => {
  // a move that was not saved is undone
  if (moved) shift(moved, 0, 0);
  moved = null;
};
