// The inspector's forms are saved automatically when a value has changed and its row loses the focus.
import { $, flow, where } from "./drawing.js";
import { changedByOthers, doing, form as written, looking, post, unfit } from "./requests.js";

const SAVED = "#fl-node, #fl-settings, #fl-edge";
let byKeys = null; // a select that is being walked through with the arrow keys

const sent = (form, submitter) => {
  const values = { op: form.dataset.op, ...Object.fromEntries(new FormData(form, submitter)) };
  byKeys = null;
  written.typed = false;
  if (form.dataset.show || form.querySelector(".fl-bad") || looking(doing)) values.show = "1";
  delete form.dataset.show;
  post(values, null, form.dataset.base);
  delete form.dataset.base;
};
flow.addEventListener("submit", (event) => {
  if (event.target.getAttribute("id") === "fl-tools") {
    event.preventDefault();
    post(
      event.submitter.name === "kind"
        ? { op: "add", kind: event.submitter.value }
        : { op: event.submitter.value },
      "see",
    );
  } else if (event.target.hasAttribute("data-send")) {
    event.preventDefault();
    sent(event.target, event.submitter);
  }
});
flow.addEventListener("input", (event) => {
  if (event.target.closest(SAVED)) written.typed = true;
  if (event.target.closest(SAVED) || event.target.id === "fl-json") written.dirty = true;
});
flow.addEventListener("change", (event) => {
  const form = event.target.closest(SAVED);
  if (!form) return;
  if (/^(name-|unites)/.test(event.target.name)) form.dataset.show = "1";
  written.dirty = true;
  const row = event.target.closest(".fl-rows-of .fl-input");
  if (row) row.dataset.changed = "1";
  else if (byKeys !== event.target) sent(form);
});
flow.addEventListener("pointerdown", () => {
  byKeys = null;
});
flow.addEventListener("keydown", (event) => {
  // only the option that is left selected counts
  if (!event.target.matches?.("select") || !event.target.closest(SAVED)) return;
  if (event.key === "Enter" && byKeys) {
    event.preventDefault();
    sent(event.target.form);
  } else if (event.key !== "Tab") byKeys = event.target;
});
flow.addEventListener("focusout", (event) => {
  const row = event.target.closest(".fl-rows-of .fl-input"); // a row is incomplete until it loses the focus
  if (row?.dataset.changed && !row.contains(event.relatedTarget)) {
    delete row.dataset.changed;
    row.closest("form").dataset.show = "1";
    sent(row.closest("form"));
  } else if (byKeys === event.target && written.dirty && !row) sent(byKeys.form);
});
$("fl-json")?.form.addEventListener("submit", () => {
  written.dirty = false;
});
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const form =
    event.target.id === "fl-inspector" &&
    doing?.values &&
    !looking() &&
    event.target.querySelector(SAVED);
  if (!form) return;
  const own = (form.dataset.op ?? form.elements.op.value) === doing.values.op;
  // A form with newer text stays, and so does an invalid form while the picture is changed. It is
  // replaced once it is saved.
  if (!(own ? written.typed : ["move", "connect"].includes(doing.values.op) && unfit())) return;
  event.preventDefault();
  form.dataset.show = "1";
  if (changedByOthers() || !own) form.dataset.base ??= doing.revision;
  if (!own) $("fl-where").querySelector("[name=node]").value = form.elements.node?.value ?? "";
  else if (form.elements.node) form.elements.node.value = where("node");
});
