// Requests are sent one after the other, each with the newest revision, so that quick changes are not lost.
// A form that was filled in before somebody else's change arrived keeps the revision that it showed.
// The answer contains the parts of the page that changed.
import { $, back, canvas, chosen, drop, flow, mark, nodeOf, view, where } from "./drawing.js";

// dirty: there is unsaved text; typed: text was entered since the form was last sent.
export const form = { dirty: false, typed: false };
const queue = [];
let added = "",
  alone = false,
  busy = false,
  leaving = "";
export let doing = null;

const ask = (verb, path, values, focus, revision) => {
  queue.push({ verb, path, values, focus, revision });
  next();
};
// Calls `run` once every request is answered.
export const settled = (run) => {
  const last = queue.at(-1) ?? doing;
  if (last) (last.after ??= []).push(run);
  else run();
};
export const post = (values, focus, revision) => {
  if ($("fl-tools")) ask("POST", flow.dataset.edit, values, focus, revision);
};
const next = async () => {
  if (busy || !queue.length) return;
  busy = true;
  doing = queue.shift();
  const asked = doing,
    { verb, path, values, focus } = doing,
    revision = (doing.revision ??= where("revision"));
  const all = values && {
    csrfmiddlewaretoken: $("fl-tools").elements.csrfmiddlewaretoken.value,
    view,
    node: where("node"),
    ...values,
    revision,
  };
  let answer = null;
  const shown = values
    ? path
    : `${path}${path.includes("?") ? "&" : "?"}shown=${where("revision")}`;
  const noted = (event) => {
    if (event.detail.elt === flow) answer = event.detail;
  };
  alone = false; // until the answer says that nobody else changed the draft
  document.addEventListener("htmx:afterRequest", noted);
  await htmx.ajax(verb, shown, { source: "#flow", swap: "none", values: all }).catch(() => {});
  document.removeEventListener("htmx:afterRequest", noted);
  busy = false;
  doing = null;
  if (!alone && where("revision") !== revision)
    queue.forEach((each) => {
      each.revision ??= revision;
    });
  if (answer?.successful) answered(verb, path, answer, focus);
  else {
    queue.length = 0;
    leaving = "";
  }
  asked.after?.forEach((run) => run());
  next();
};
document.body.addEventListener("flow-changed", (event) => {
  ({ node: added, alone } = event.detail);
});
export const changedByOthers = () => !alone;

const answered = (verb, path, answer, focus) => {
  const asked =
    answer.xhr.getResponseHeader("HX-Retarget") && flow.querySelector("#fl-conflict h2");
  if (asked) {
    asked.focus();
    asked.scrollIntoView({ block: "nearest" });
    leaving = "";
    return;
  }
  if (verb === "GET") {
    history.replaceState(null, "", path);
    mark();
  }
  const bad = flow.querySelector("#fl-inspector .fl-bad");
  if (!$("fl-wrong").hidden) back();
  else if (!queue.length && !bad && !form.typed) {
    form.dirty = false;
    drop();
  }
  refocus(focus);
  if (document.activeElement === document.body)
    (bad?.querySelector("input, select, textarea") ?? nodeOf(chosen()) ?? canvas)?.focus({
      preventScroll: true,
    });
  if (leaving && !queue.length && !form.dirty) location.href = leaving;
};
const refocus = (asked) => {
  const name = ["new", "see"].includes(asked) ? added : asked;
  const target = name ? (name.startsWith("#") ? flow.querySelector(name) : nodeOf(name)) : null;
  if (asked !== "see" || document.activeElement === document.body) target?.focus();
  target?.scrollIntoView({ block: "nearest", inline: "nearest" });
};

// --- selecting something else ---
// Whether a GET is on its way: the form on the page is then about to be replaced.
export const looking = (also) => [...queue, also].some((each) => each?.verb === "GET");
export const unfit = () => form.dirty && flow.querySelector("#fl-inspector .fl-bad");
export const look = (address, focus) => {
  if (unfit() && !confirm("Your changes are not valid and were not saved. Discard them?")) return;
  ask("GET", address, null, focus);
};
export const select = (name, focus) =>
  name === where("node") && !busy
    ? refocus(focus)
    : look(`${flow.dataset.page}?view=${view}&node=${encodeURIComponent(name)}`, focus);
document.addEventListener("click", (event) => {
  // a link waits until the changes are saved
  const link = event.target.closest("a[href]");
  if (
    !link ||
    event.defaultPrevented ||
    !busy ||
    unfit() ||
    event.ctrlKey ||
    event.metaKey ||
    event.shiftKey ||
    link.target
  )
    return;
  event.preventDefault();
  leaving = link.href;
});
addEventListener("beforeunload", (event) => {
  if (form.dirty) event.preventDefault();
});

// --- errors: the page and its unsaved text stay ---
const away = async (event) => {
  back();
  const status = event.detail.xhr?.status,
    wrong = $("fl-wrong");
  if (!wrong) return;
  if (status === 403) await renew().catch(() => {});
  wrong.hidden = false;
  wrong.textContent =
    status === 401
      ? "You are logged out. Nothing was changed, and your text is still here. Log in in another tab, then save again."
      : status === 403
        ? "The server refused the change. If you have just logged in again, save once more."
        : status
          ? `The change was refused (${status}).`
          : "The server can't be reached. Nothing was changed; try again.";
};
const renew = async () => {
  // a new login has a new CSRF token
  const page = new DOMParser().parseFromString(
    await (await fetch(location.href)).text(),
    "text/html",
  );
  const token = page.querySelector("#fl-tools [name=csrfmiddlewaretoken]")?.value;
  if (token)
    flow.querySelectorAll("[name=csrfmiddlewaretoken]").forEach((input) => {
      input.value = token;
    });
};
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if ([401, 403].includes(event.detail.xhr.status)) {
    event.preventDefault();
    away(event);
  }
});
document.addEventListener("htmx:sendError", away);
document.addEventListener("htmx:responseError", away);
