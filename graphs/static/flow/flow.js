// FlowView with mouse and keyboard. Every change is a POST, and the server answers with the parts of the
// page that changed. The graph itself is not kept here.
import { canvas, chosen, corner, flow, nodeOf, nodes, settle, view } from "./drawing.js";
import "./forms.js";
import "./palette.js";
import "./mouse.js";
import "./keys.js";

const begin = () => {
  flow.classList.add("fl-scripted");
  settle();
  const first = nodeOf(chosen()) ?? nodes().sort((a, b) => corner(a)[0] - corner(b)[0])[0],
    seen = canvas?.getBoundingClientRect(),
    box = first?.getBoundingClientRect();
  if (box)
    canvas.scrollBy(
      box.x + box.width / 2 - seen.x - seen.width / 2,
      box.y + box.height / 2 - seen.y - seen.height / 2,
    );
};
if (
  view === "picture" &&
  matchMedia("(max-width: 640px)").matches &&
  !new URLSearchParams(location.search).has("view")
) {
  const list = new URL(location.href); // the picture needs more room
  list.searchParams.set("view", "list");
  location.replace(list);
} else begin();
