// What the Run Manager adds to its links and forms: selecting, copying and opening rows, keys, a selection
// that survives swaps, and live pictures.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const boxes = () => [...document.querySelectorAll('#runs input[name="run"]')];
  const show = () => {
    const all = boxes(),
      chosen = all.filter((box) => box.checked),
      head = $("rm-all"),
      count = $("rm-count");
    if (count) count.textContent = chosen.length ? `${chosen.length} selected` : "";
    if (head) {
      head.checked = all.length > 0 && chosen.length === all.length;
      head.indeterminate = chosen.length > 0 && chosen.length < all.length;
    }
  };

  // --- selecting, copying, opening ---
  let last = null;
  document.addEventListener("change", (event) => {
    if (event.target.id === "rm-all")
      boxes().forEach((box) => {
        box.checked = event.target.checked;
      });
    if (event.target.id === "rm-all" || event.target.name === "run") show();
    if (event.target.id === "rm-wrap")
      $("rm-log")?.classList.toggle("rm-nowrap", !event.target.checked);
  });
  document.addEventListener("click", (event) => {
    const copy = event.target.closest(".rm-copy");
    if (copy) {
      navigator.clipboard?.writeText(copy.dataset.copy);
      copy.dataset.label ??= copy.textContent;
      copy.textContent = "copied";
      setTimeout(() => {
        copy.textContent = copy.dataset.label;
      }, 1200);
      return;
    }
    if (event.target.name === "run" && event.target.type === "checkbox") {
      const all = boxes();
      if (event.shiftKey && last && all.includes(last)) {
        const [from, to] = [all.indexOf(last), all.indexOf(event.target)].sort((a, b) => a - b);
        all.slice(from, to + 1).forEach((box) => {
          box.checked = event.target.checked;
        });
        show();
      }
      last = event.target;
    }
    if (event.target.id === "rm-retry") location.reload();
    const row = event.target.closest("tr[data-href]");
    if (
      row &&
      !event.target.closest("a, input, button, label, code, summary") &&
      !String(getSelection())
    )
      location.href = row.dataset.href;
    document.querySelectorAll("details.rm-menu[open]").forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button?.hasAttribute("data-once") || event.defaultPrevented) return;
    button.setAttribute("aria-busy", "true");
    setTimeout(() => {
      button.disabled = true;
    }, 0);
  });
  // A page that comes back from the browser's history can be sent again.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    document.querySelectorAll("[data-once]").forEach((button) => {
      button.disabled = false;
      button.removeAttribute("aria-busy");
    });
  });

  // --- keys: ? shows the help, j and k move, x selects, o opens ---
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      document.querySelectorAll("details.rm-menu[open]").forEach((menu) => {
        menu.open = false;
        menu.querySelector("summary").focus();
      });
      return;
    }
    if (
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      event.target.closest("input, textarea, select, [contenteditable]")
    )
      return;
    const help = $("rm-help");
    if (event.key === "?" && help) {
      help.open = !help.open;
      help.querySelector("summary").focus();
      return;
    }
    const rows = [...document.querySelectorAll("#runs tbody tr")],
      at = rows.indexOf(document.activeElement?.closest("tr"));
    const to =
      event.key === "j" ? rows[at + 1] : event.key === "k" ? rows[Math.max(0, at - 1)] : null;
    if (to) to.querySelector("th a")?.focus();
    else if (at >= 0 && event.key === "x") rows[at].querySelector('input[name="run"]').click();
    else if (at >= 0 && event.key === "o") location.href = rows[at].dataset.href;
  });

  // --- filters ---
  document.addEventListener("htmx:configRequest", (event) => {
    if (!event.target.matches(".rm-filters")) return;
    const { parameters } = event.detail;
    Object.keys(parameters).forEach((name) => {
      if (parameters[name] === "") delete parameters[name];
    });
  });

  // --- swaps ---
  let kept = new Set();
  // What was opened is opened again where it is replaced: by its place, its text and its number.
  let opened = new Set();
  let present = new Set();
  const namedDetails = () => {
    const counts = {};
    return [...document.querySelectorAll("details")].map((details) => {
      const { id } = details.parentElement.closest("[id]") ?? {};
      const name = `${id}/${details.querySelector("summary").textContent.trim()}`;
      counts[name] = (counts[name] ?? 0) + 1;
      return [details, `${name}/${counts[name]}`];
    });
  };
  document.addEventListener("htmx:beforeSwap", () => {
    const named = namedDetails();
    present = new Set(named.map(([details]) => details));
    opened = new Set(named.filter(([details]) => details.open).map(([, name]) => name));
    kept = new Set(
      boxes()
        .filter((box) => box.checked)
        .map((box) => box.value),
    );
  });
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const asked = event.detail.fragment?.querySelector?.("#answers") || event.detail.fragment;
    if (
      event.detail.target?.id === "answers" &&
      asked?.dataset?.waiting === event.detail.target.dataset.waiting
    )
      event.detail.shouldSwap = false; // somebody may be typing in it
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    const follow = $("rm-follow");
    if (event.target.classList?.contains("rm-tail") && follow && !follow.checked)
      event.preventDefault();
  });
  const draw = () => {
    const now = $("rm-now");
    if (!now?.dataset.marks) return;
    for (const [node, state, line] of JSON.parse(now.dataset.marks)) {
      const box = document.querySelector(`.rm-node[data-node="${CSS.escape(node)}"]`);
      if (!box) continue;
      box.setAttribute("class", `rm-node rm-${state}`);
      box.setAttribute("aria-label", `${node}: ${state}, ${line.slice(2)}`);
      box.querySelector(".rm-sub").textContent = line.length > 28 ? `${line.slice(0, 27)}…` : line;
    }
  };
  let said = 0;
  document.addEventListener("htmx:afterSettle", (event) => {
    boxes().forEach((box) => {
      if (kept.has(box.value)) box.checked = true;
    });
    namedDetails().forEach(([details, name]) => {
      if (!present.has(details) && opened.has(name)) details.open = true;
    });
    opened = new Set();
    show();
    draw();
    if ($("rm-error")) $("rm-error").hidden = true;
    const log = $("rm-log");
    if (log && $("rm-follow")?.checked && event.target.closest?.("#rm-log"))
      log.scrollTop = log.scrollHeight;
    const head = document.querySelector("#rm-head .rm-badge"),
      tell = $("rm-said");
    if (tell && Date.now() - said > 10000) {
      said = Date.now();
      tell.textContent = head
        ? head.textContent
        : `${document.querySelectorAll("#runs .rm-running").length} runs are running`;
    }
  });
  const failed = () => {
    if ($("rm-error")) $("rm-error").hidden = false;
  };
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:responseError", failed);
  show();
})();
