// The keys of the picture, which its help lists. Nodes are copied and pasted as JSON.
import { $, chosen, corner, edges, flow, nodeOf, nodes, svg, view } from "./drawing.js";
import { look, post, select, settled } from "./requests.js";

const step = (node, key) => {
  // the node that an arrow key leads to
  const name = node.dataset.node,
    [x, y] = corner(node);
  const ends =
    key === "ArrowRight"
      ? edges()
          .filter((edge) => edge.dataset.start === name)
          .map((edge) => edge.dataset.end)
      : key === "ArrowLeft"
        ? edges()
            .filter((edge) => edge.dataset.end === name)
            .map((edge) => edge.dataset.start)
        : null;
  const near = ends
    ? ends.map(nodeOf)
    : nodes().filter((each) => (key === "ArrowDown" ? corner(each)[1] > y : corner(each)[1] < y));
  const far = (each) => {
    const [ex, ey] = corner(each);
    return Math.abs(ey - y) + (ends ? 0 : 3 * Math.abs(ex - x));
  };
  return near.sort((a, b) => far(a) - far(b))[0];
};
const MOVES = { ArrowLeft: [-22, 0], ArrowRight: [22, 0], ArrowUp: [0, -22], ArrowDown: [0, 22] };
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select"),
    node = event.target.closest?.(".fl-graph .rm-node"),
    ctrl = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (ctrl && key === "s" && $("fl-tools")) {
    event.preventDefault();
    event.target.closest("form")?.requestSubmit();
    return;
  }
  if (ctrl && !typing && key === "z") {
    event.preventDefault();
    post({ op: event.shiftKey ? "redo" : "undo" }, node?.dataset.node);
    return;
  }
  if (ctrl && !typing && key === "d" && (node || chosen())) {
    event.preventDefault();
    post({ op: "duplicate", node: node?.dataset.node || chosen() }, "new");
    return;
  }
  if (key === "Escape" && chosen() && !typing) {
    look(`${flow.dataset.page}?view=${view}`, "#fl-canvas");
    return;
  }
  const edge = event.target.closest?.(".fl-edge");
  if (edge && (key === "Delete" || key === "Backspace")) {
    event.preventDefault();
    post({ op: "disconnect", start: edge.dataset.start, end: edge.dataset.end }, "new");
    return;
  }
  if (!node || ctrl) return;
  const name = node.dataset.node;
  if (MOVES[key]) {
    event.preventDefault();
    if (!event.altKey) {
      const next = step(node, key);
      next?.focus();
      next?.scrollIntoView({ block: "nearest", inline: "nearest" });
      return;
    }
    const [x, y] = corner(node);
    post({ op: "move", node: name, x: x + MOVES[key][0], y: y + MOVES[key][1] }, name);
  } else if (key === "n") {
    event.preventDefault();
    $("fl-search").closest("details").open = true;
    select(name, "#fl-search");
    $("fl-search").focus();
  } else if (key === "e") {
    event.preventDefault();
    select(name, "#fl-end");
  } else if (key === "Enter" || key === " ") {
    event.preventDefault();
    select(name, "#fl-inspector h2");
  } else if (key === "Delete" || key === "Backspace") {
    event.preventDefault();
    post({ op: "delete", node: name }, "new");
  }
});
// The node as it was copied, and as it is once its last change is saved.
const copied = { put: "", now: "" };
document.addEventListener("copy", (event) => {
  if (
    String(getSelection()) ||
    event.target.closest?.("input, textarea") ||
    !$("fl-copied") ||
    !chosen()
  )
    return;
  event.preventDefault();
  event.clipboardData.setData("text/plain", (copied.put = $("fl-copied").textContent));
  settled(() => {
    copied.now = $("fl-copied").textContent;
    if (copied.now !== copied.put) navigator.clipboard?.writeText(copied.now).catch(() => {});
  });
});
document.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text/plain").replaceAll("\r", "");
  if (
    event.target.closest?.("input, textarea") ||
    (!svg() && !$("fl-picture")) ||
    !text.trim().startsWith("{")
  )
    return;
  event.preventDefault();
  post(
    {
      op: "paste",
      get json() {
        return text === copied.put ? copied.now : text;
      },
    },
    "new",
  ); // `json` is read when the request is sent
});
