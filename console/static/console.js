// What makes the pages livelier; each of them works without. Nothing is ever built from text as HTML: what is shown
// comes from the server, which has escaped it, through DOMParser, in which no script runs.
"use strict";

(() => {
  const BUSY = "aria-busy";

  // The element that `selector` finds in the page at `address`; null where there is none.
  async function fetched(address, selector, options = {}) {
    const headers = { Accept: "text/html" };
    const answer = await fetch(address, { credentials: "same-origin", headers, ...options });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      window.location.assign(answer.url);
      return null;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.querySelector(selector);
    return found && document.importNode(found, true);
  }

  // Times in the local time of whoever looks; UTC stays as the title.
  function localTimes(within) {
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    for (const element of within.querySelectorAll("time[data-local], time[data-title]")) {
      const at = new Date(element.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      if (element.hasAttribute("data-title")) {
        element.title = format.format(at);
      } else {
        element.title = element.textContent;
        element.textContent = format.format(at);
      }
    }
  }

  // A button waits until the name before it has been typed.
  function typedConfirmations(within) {
    for (const field of within.querySelectorAll("[data-typed]")) {
      const button = field.form && field.form.querySelector("button[type=submit]");
      if (!button) continue;
      const look = () => {
        button.disabled = field.value.trim() !== field.dataset.typed;
      };
      field.addEventListener("input", look);
      look();
    }
  }

  // What comes into another page must not have the ids of what is there: a label would mean the wrong field.
  function rename(sheet) {
    const own = new Set();
    for (const element of sheet.querySelectorAll("[id]")) {
      own.add(element.id);
      element.id = `sheet-${element.id}`;
    }
    for (const name of ["for", "aria-describedby", "aria-labelledby", "aria-controls", "list"]) {
      for (const element of [sheet, ...sheet.querySelectorAll(`[${name}]`)]) {
        const names = (element.getAttribute(name) || "").split(" ").filter(Boolean);
        if (names.length) element.setAttribute(name, names.map((id) => (own.has(id) ? `sheet-${id}` : id)).join(" "));
      }
    }
    for (const element of sheet.querySelectorAll("[data-into]")) {
      const id = element.dataset.into.slice(1);
      if (own.has(id)) element.dataset.into = `#sheet-${id}`;
    }
  }

  // A link with data-dialog opens the sheet of its page in a dialog.
  async function openDialog(link) {
    link.setAttribute(BUSY, "true");
    let sheet = null;
    try {
      sheet = await fetched(link.href, "[data-sheet]");
    } catch {
      sheet = null;
    }
    link.removeAttribute(BUSY);
    if (!sheet) {
      window.location.assign(link.href);
      return;
    }
    const dialog = document.createElement("dialog");
    rename(sheet);
    dialog.setAttribute("aria-labelledby", sheet.getAttribute("aria-labelledby") || "");
    dialog.append(sheet);
    document.body.append(dialog);
    enliven(dialog);
    dialog.addEventListener("close", () => {
      dialog.remove();
      link.focus();
    });
    dialog.showModal();
  }

  // data-live="SECONDS": this part of the page is looked at again while it says so. Whoever has the focus in it, or
  // has opened something, is not disturbed.
  function live(element) {
    const seconds = Number(element.dataset.live);
    if (!seconds || !element.id) return;
    window.setTimeout(async () => {
      if (!element.isConnected) return;
      let next = null;
      try {
        if (!document.hidden) next = await fetched(window.location.href, `#${CSS.escape(element.id)}`);
      } catch {
        next = null;
      }
      if (!next || element.contains(document.activeElement) || document.querySelector("dialog[open]")) {
        live(element);
        return;
      }
      element.replaceWith(next);
      enliven(next);
      live(next);
    }, seconds * 1000);
  }

  // data-preview="ADDRESS": shows what the page there makes of the fields of its form while one types.
  function previews(within) {
    for (const place of within.querySelectorAll("[data-preview]")) {
      const form = place.closest("form");
      const names = new Set((place.dataset.fields || "").split(" ").filter(Boolean));
      let waiting = 0;
      let latest = 0;
      const look = async () => {
        const mine = ++latest;
        const query = new URLSearchParams();
        for (const [name, value] of new FormData(form)) if (names.has(name)) query.append(name, value);
        try {
          const found = await fetched(`${place.dataset.preview}?${query}`, "[data-fragment]");
          if (mine === latest && found) place.replaceChildren(found);
        } catch {
          if (mine === latest) place.textContent = "The preview cannot be had now.";
        }
        if (mine === latest) localTimes(place);
      };
      form.addEventListener("input", (event) => {
        if (!names.has(event.target.name)) return;
        window.clearTimeout(waiting);
        waiting = window.setTimeout(look, 300);
      });
      look();
    }
  }

  // A button with data-into="#ID" sends the form to its formaction and shows the answer's fragment there.
  async function sendInto(button) {
    const place = document.querySelector(button.dataset.into);
    const body = new URLSearchParams(new FormData(button.form, button));
    button.disabled = true;
    place.setAttribute(BUSY, "true");
    place.textContent = button.dataset.wait || "Working …";
    try {
      const found = await fetched(button.formAction, "[data-fragment]", { method: "POST", body });
      if (found) place.replaceChildren(found);
      else place.textContent = "This did not work. Reload the page and try again.";
    } catch {
      place.textContent = "The console does not answer. Is it still running?";
    }
    localTimes(place);
    place.removeAttribute(BUSY);
    button.disabled = false;
  }

  function enliven(within) {
    localTimes(within);
    typedConfirmations(within);
    previews(within);
    const wanted = within.querySelector("[data-focus]");
    if (wanted) wanted.focus();
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const closing = target.closest("[data-close]");
    const dialog = target.closest("dialog");
    const opening = target.closest("a[data-dialog]");
    const sending = target.closest("button[data-into]");
    if (closing && dialog) {
      event.preventDefault();
      dialog.close();
    } else if (target === dialog) {
      dialog.close(); // a click beside the sheet
    } else if (opening) {
      event.preventDefault();
      openDialog(opening);
    } else if (sending) {
      event.preventDefault();
      sendInto(sending);
    }
  });

  // A form is sent once, however often one clicks.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.hasAttribute(BUSY)) {
      event.preventDefault();
      return;
    }
    form.setAttribute(BUSY, "true");
    window.addEventListener("pageshow", () => form.removeAttribute(BUSY), { once: true });
  });

  // A choice that only filters is applied at once.
  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (form && form.hasAttribute("data-filter") && event.target.tagName === "SELECT") form.requestSubmit();
  });

  // A link to a part that is folded away unfolds it.
  function unfold() {
    const part = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
    if (part instanceof HTMLDetailsElement) part.open = true;
  }
  window.addEventListener("hashchange", unfold);

  document.addEventListener("DOMContentLoaded", () => {
    unfold();
    enliven(document);
    for (const element of document.querySelectorAll("[data-live]")) live(element);
  });
})();
