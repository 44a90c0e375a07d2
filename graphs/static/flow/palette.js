// The palette: nodes are found by words and added by a click or by Enter.
import { $, flow } from "./drawing.js";
import { post } from "./requests.js";

const kinds = () => [...flow.querySelectorAll(".fl-kind")];
const search = () => {
  const words = $("fl-search").value.toLowerCase().split(/\s+/);
  kinds().forEach((kind) => {
    kind.hidden = !words.every((word) => kind.dataset.words.toLowerCase().includes(word));
  });
  flow.querySelectorAll(".fl-group").forEach((group) => {
    group.hidden = !group.querySelector(".fl-kind:not([hidden])");
  });
  $("fl-none").hidden = kinds().some((kind) => !kind.hidden);
};
$("fl-search")?.addEventListener("input", search);
$("fl-search")?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  const first = kinds().find((kind) => !kind.hidden);
  if (first) {
    $("fl-search").value = "";
    search();
    post({ op: "add", kind: first.value }, "new");
  }
});
if (matchMedia("(max-width: 720px)").matches)
  flow.querySelectorAll(".fl-palette details").forEach((each) => {
    each.open = false;
  });
