// The mouse in the picture: select, move, connect.
import {
  $,
  back,
  canvas,
  chosen,
  corner,
  drop,
  flow,
  nodeOf,
  nodes,
  shift,
  svg,
  view,
  wired,
} from "./drawing.js";
import { look, post, select } from "./requests.js";

const at = (event) => {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(
    svg().getScreenCTM().inverse(),
  );
  return [point.x, point.y];
};
const over = (event) =>
  document.elementFromPoint(event.clientX, event.clientY)?.closest(".rm-node");
let drag = null,
  dragged = false;
canvas?.addEventListener("dragstart", (event) => event.preventDefault());
canvas?.addEventListener("pointerdown", (event) => {
  const node = event.target.closest(".rm-node");
  dragged = false;
  if (!node || event.button !== 0 || !$("fl-tools")) return;
  drag = {
    node,
    from: at(event),
    wire: event.target.closest(".fl-port")
      ? document.createElementNS("http://www.w3.org/2000/svg", "path")
      : null,
  };
  if (drag.wire) {
    drag.wire.setAttribute("class", "fl-wire");
    svg().append(drag.wire);
  }
});
addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = at(event),
    dx = x - drag.from[0],
    dy = y - drag.from[1];
  if (!dragged && Math.hypot(dx, dy) < 4) return;
  dragged = true;
  if (!drag.wire) {
    shift(drag.node, dx, dy);
    return;
  }
  drag.wire.setAttribute("d", wired(drag.node, x, y));
  const target = over(event);
  nodes().forEach((node) =>
    node.classList.toggle("fl-target", node === target && node !== drag.node),
  );
});
addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { node, wire, from } = drag,
    [x, y] = at(event),
    [nx, ny] = corner(node),
    target = over(event);
  drag = null;
  wire?.remove();
  nodes().forEach((each) => each.classList.remove("fl-target"));
  if (!dragged) return;
  if (!wire) {
    drop(node);
    post({ op: "move", node: node.dataset.node, x: nx + x - from[0], y: ny + y - from[1] });
  } else if (target && target !== node)
    post({ op: "connect", start: node.dataset.node, end: target.dataset.node });
});
addEventListener("pointercancel", () => {
  drag?.wire?.remove();
  drop(drag?.node);
  back();
  drag = null;
});
flow.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  const node = event.target.closest(".fl-graph .rm-node"),
    edge = event.target.closest(".fl-edge"),
    go = event.target.closest("[data-go]");
  if (dragged && (node || edge)) {
    event.preventDefault();
    dragged = false;
    return;
  }
  if (node) {
    event.preventDefault();
    select(node.dataset.node);
  } else if (edge) {
    event.preventDefault();
    look(edge.getAttribute("href"), event.detail === 0 ? "#fl-inspector h2" : null);
  } else if (event.target.closest("#fl-graph")) {
    event.preventDefault();
    look(`${flow.dataset.page}?view=${view}`, "#fl-inspector h2");
  } else if (event.target.closest("#fl-canvas") && chosen() && !dragged)
    look(`${flow.dataset.page}?view=${view}`);
  else if (go && svg()) {
    event.preventDefault();
    nodeOf(go.dataset.go)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    select(go.dataset.go, "#fl-inspector h2");
  }
});
