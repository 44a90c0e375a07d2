// The progress of an upload, and what to do when it fails.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  document.addEventListener("htmx:xhr:progress", (event) => {
    if (!event.detail.lengthComputable || !$("fl-progress")) return;
    const share = event.detail.loaded / event.detail.total;
    $("fl-progress").hidden = false;
    $("fl-progress").value = share;
    $("fl-percent").textContent =
      share < 1 ? `${Math.floor(share * 100)} %` : "Uploaded. Checking the tables …";
  });
  const away = (event) => {
    if (!$("fl-percent")) return;
    $("fl-progress").hidden = true;
    $("fl-percent").textContent = event.detail.xhr?.status
      ? `The upload was refused (${event.detail.xhr.status}).`
      : "The server can't be reached. Nothing was uploaded.";
  };
  document.addEventListener("htmx:sendError", away);
  document.addEventListener("htmx:responseError", away);
})();
