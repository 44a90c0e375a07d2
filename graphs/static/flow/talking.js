// Talking to the server: one request after the other, each with the newest revision, so that nothing that was done quickly is lost; but a form that was
// filled in before somebody else's change came stays a change of what it showed. The answer brings the parts of the page that changed.
import { $, back, canvas, chosen, drop, flow, mark, nodeOf, view, where } from "./drawing.js";

export const form = { dirty: false, typed: false };  // what is written and not saved; what was written since it was sent the last time
const queue = [];
let added = "", alone = false, busy = false, leaving = "";
export let doing = null;

const ask = (verb, path, values, focus, revision) => { queue.push({ verb, path, values, focus, revision }); next(); };
export const settled = (run) => { const last = queue.at(-1) ?? doing; if (last) (last.after ??= []).push(run); else run(); };  // when all that was asked is answered
export const post = (values, focus, revision) => { if ($("fl-tools")) ask("POST", flow.dataset.edit, values, focus, revision); };
const next = async () => {
  if (busy || !queue.length) return;
  busy = true;
  doing = queue.shift();
  const asked = doing, { verb, path, values, focus } = doing, revision = doing.revision ??= where("revision");
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
  asked.after?.forEach((run) => run());
  next();
};
document.body.addEventListener("flow-changed", (event) => { ({ node: added, alone } = event.detail); });
export const changedByOthers = () => !alone;

const answered = (verb, path, answer, focus) => {
  const asked = answer.xhr.getResponseHeader("HX-Retarget") && flow.querySelector("#fl-conflict h2");
  if (asked) { asked.focus(); asked.scrollIntoView({ block: "nearest" }); leaving = ""; return; }
  if (verb === "GET") { history.replaceState(null, "", path); mark(); }
  const bad = flow.querySelector("#fl-inspector .fl-bad");
  if (!$("fl-wrong").hidden) back(); else if (!queue.length && !bad && !form.typed) { form.dirty = false; drop(); }
  refocus(focus);
  if (document.activeElement === document.body) (bad?.querySelector("input, select, textarea") ?? nodeOf(chosen()) ?? canvas)?.focus({ preventScroll: true });
  if (leaving && !queue.length && !form.dirty) location.href = leaving;
};
const refocus = (asked) => {
  const name = ["new", "see"].includes(asked) ? added : asked;
  const target = name ? (name.startsWith("#") ? flow.querySelector(name) : nodeOf(name)) : null;
  if (asked !== "see" || document.activeElement === document.body) target?.focus();
  target?.scrollIntoView({ block: "nearest", inline: "nearest" });
};

// --- looking at something else ----------------------------------------------------------------------------------------
export const looking = (also) => [...queue, also].some((each) => each?.verb === "GET");  // a form that is on its way shows what was before
export const unfit = () => form.dirty && flow.querySelector("#fl-inspector .fl-bad");
export const look = (address, focus) => {
  if (unfit() && !confirm("What you wrote doesn't fit and was not saved. Leave it?")) return;
  ask("GET", address, null, focus);
};
export const select = (name, focus) => name === where("node") && !busy ? refocus(focus) : look(`${flow.dataset.page}?view=${view}&node=${encodeURIComponent(name)}`, focus);
document.addEventListener("click", (event) => {  // a link waits for what is being saved
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || !busy || unfit() || event.ctrlKey || event.metaKey || event.shiftKey || link.target) return;
  event.preventDefault();
  leaving = link.href;
});
addEventListener("beforeunload", (event) => { if (form.dirty) event.preventDefault(); });

// --- what goes wrong: stay here, with what was written ----------------------------------------------------------------
const away = async (event) => {
  back();
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
document.addEventListener("htmx:beforeOnLoad", (event) => { if ([401, 403].includes(event.detail.xhr.status)) { event.preventDefault(); away(event); } });
document.addEventListener("htmx:sendError", away);
document.addEventListener("htmx:responseError", away);
