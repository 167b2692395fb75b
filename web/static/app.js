// What all pages do: times that stay current, copying, questions before what cannot be undone, the tab. The look is
// look.js's, what is told of what somebody did is toasts.js's.
"use strict";

const toast = (text) => document.dispatchEvent(new CustomEvent("toast", { detail: { text } }));

// A network that is away for a moment costs a moment, and no part of the page: a script or a style sheet that did not
// come is asked for again. Of a module also one that it imports.
const TURNS = 4;
const askAgain = (old) => {
  const turn = Number(old.dataset.turn ?? 0) + 1;
  if (turn > TURNS) return;
  const fresh = document.createElement(old.localName);
  for (const { name, value } of old.attributes) fresh.setAttribute(name, value);
  fresh.dataset.turn = turn;
  setTimeout(() => old.replaceWith(fresh), 400 * turn);
};
addEventListener("error", ({ target }) => { if (target.localName === "script" || target.rel === "stylesheet") askAgain(target); }, true);
const isHere = ({ sheet }) => { try { return Boolean(sheet.cssRules); } catch { return false; } }; // one that failed may not be read
for (const link of document.querySelectorAll('link[rel="stylesheet"]')) if (!isHere(link)) askAgain(link);

// Times. The same wording as web/pages/words.py.
const ago = (seconds) => {
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86400);
  return days > 31 ? null : days === 1 ? "yesterday" : `${days} days ago`;
};
const two = (number) => String(number).padStart(2, "0");
const lasted = (seconds) => {
  if (seconds < 60) return `${Math.max(0, seconds).toFixed(seconds < 1 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
};
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const tell = () => {
  const now = Date.now() / 1000;
  for (const element of document.querySelectorAll("time[data-at]")) {
    const at = Number(element.dataset.at);
    const text = ago(now - at);
    if (text) setText(element, text);
    element.title = local.format(at * 1000);
  }
  for (const element of document.querySelectorAll("[data-since]")) setText(element, lasted(now - Number(element.dataset.since)));
  for (const bar of document.querySelectorAll("rect[data-from]")) {
    const part = (now - Number(bar.dataset.from)) / Number(bar.dataset.usual);
    bar.setAttribute("width", String(Math.round(Math.min(97, Math.max(1, 100 * part)))));
  }
};
tell();
setInterval(tell, 1000);

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf-token"]').content;
});
document.addEventListener("htmx:afterSettle", tell);

// What is wider than the screen scrolls sideways, by keys too: then, and only then, it is a stop for them.
const reach = (part = document) => {
  for (const box of part.querySelectorAll(".scroll, .copyable code")) {
    if (box.dataset.reach === undefined && box.hasAttribute("tabindex")) continue;
    if (box.scrollWidth > box.clientWidth) {
      box.dataset.reach = "";
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", box.dataset.label ?? box.querySelector("caption")?.textContent ?? box.textContent);
    } else if (box.dataset.reach !== undefined) {
      for (const name of ["tabindex", "role", "aria-label", "data-reach"]) box.removeAttribute(name);
    }
  }
};
reach();
addEventListener("resize", () => reach());
document.addEventListener("htmx:afterSettle", ({ target }) => reach(target.closest?.(".scroll")?.parentElement ?? target));

// Polled parts are swapped only when they changed, and not while somebody presses something in them (the click would
// go nowhere) or fills in a form of theirs: the next poll brings what this one had. Hidden pages rest. A part with
// data-patch is not swapped as a whole: run.js changes what differs.
let pressed = null;
addEventListener("pointerdown", (event) => { if (!event.button) pressed = event.target; }, true);
for (const name of ["pointerup", "pointercancel", "contextmenu"]) addEventListener(name, () => { setTimeout(() => { pressed = null; }); }, true);
const isInUse = (part) => part.contains(pressed) || part.querySelector("input:focus, textarea:focus, select:focus, details[open] form") !== null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const tag = event.detail.xhr.getResponseHeader("ETag");
  const { target } = event.detail;
  if (!tag) return;
  if (target.dataset.etag === tag || isInUse(target)) event.detail.shouldSwap = false;
  else {
    target.dataset.etag = tag;
    if (!("patch" in target.dataset)) hold(target);
  }
});

// What has no id loses the focus when its part comes anew: the link or button that is the same has it again. What was
// scrolled stays so.
let held = null;
const boxesOf = (part) => [part, ...part.querySelectorAll('[role="region"], .scroll')];
const likeness = (element) => [element.localName, element.getAttribute("href") ?? element.form?.getAttribute("action") ?? "", element.getAttribute("aria-label") ?? element.textContent.trim()].join(" ");
const hold = (part) => {
  const { activeElement: active } = document;
  held = part.isConnected && {
    id: part.id,
    focused: active && active !== part && !active.id && part.contains(active) ? likeness(active) : null,
    places: boxesOf(part).map((box) => [box.scrollLeft, box.scrollTop]),
  };
};
document.addEventListener("htmx:afterSwap", () => {
  const part = held && document.getElementById(held.id);
  if (part) boxesOf(part).forEach((box, at) => { [box.scrollLeft, box.scrollTop] = held.places[at] ?? [0, 0]; });
  if (part && held.focused && document.activeElement === document.body) {
    [...part.querySelectorAll("a[href], button")].find((element) => likeness(element) === held.focused)?.focus({ preventScroll: true });
  }
  held = null;
});
// A hidden tab polls, for its title's sake, but seldom. What htmx asks by the clock has no event that triggered it.
const REST_MS = 15_000;
const polled = new Map(); // address -> when it was asked last
document.addEventListener("htmx:beforeRequest", (event) => {
  const { path, triggeringEvent } = event.detail.requestConfig;
  if (triggeringEvent) return;
  const now = performance.now();
  if (document.hidden && now - (polled.get(path) ?? -Infinity) < REST_MS) event.preventDefault();
  else polled.set(path, now);
});

// What is polled is stale while the server does not answer: say so.
let away = null;
document.addEventListener("htmx:sendError", () => {
  if (away) return;
  away = document.createElement("p");
  away.className = "away";
  away.setAttribute("role", "status");
  away.textContent = "The server does not answer. What you see may be old.";
  document.body.append(away);
});
document.addEventListener("htmx:afterOnLoad", () => { away?.remove(); away = null; });

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    toast("Copied");
  } catch {
    // Plain http has no clipboard: select the text, so that Ctrl-C takes it.
    getSelection().selectAllChildren(button.previousElementSibling);
    toast("Selected: press Ctrl-C");
  }
  const use = button.querySelector("use");
  const before = button.dataset.icon ??= use.getAttribute("href"); // also where it is pressed twice
  use.setAttribute("href", `${document.body.dataset.sprite}#check`);
  setTimeout(() => use.setAttribute("href", before), 1500);
});

// <form data-confirm="…">: ask first.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.confirm || form.dataset.confirmed) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  const text = document.createElement("p");
  text.id = "question";
  text.textContent = form.dataset.confirm;
  dialog.setAttribute("aria-labelledby", "question");
  const actions = document.createElement("div");
  actions.className = "page-actions";
  const no = document.createElement("button");
  no.className = "button";
  no.textContent = "Keep it";
  const yes = document.createElement("button");
  yes.className = "button danger";
  yes.textContent = event.submitter?.textContent.trim() || "Yes";
  no.addEventListener("click", () => dialog.close());
  yes.addEventListener("click", () => { form.dataset.confirmed = "1"; dialog.close(); form.requestSubmit(); });
  dialog.addEventListener("close", () => dialog.remove());
  actions.append(no, yes);
  dialog.append(text, actions);
  document.body.append(dialog);
  dialog.showModal();
});

// Signing in leads back to the line that was asked for. No server hears of it: browsers keep what follows "#" to themselves.
if (location.pathname === "/login") localStorage.removeItem("places"); // of whoever was here before
if (location.pathname === "/login" && location.hash) {
  const next = document.querySelector('form[action="/login"] input[name="next"]');
  if (next && !next.value.includes("#")) next.value += location.hash;
  const provider = document.getElementById("provider");
  if (provider) provider.search = new URLSearchParams({ next: next.value });
}

// The tab: its title and icon carry the state. A page says them in an element that its live parts swap:
// <span data-tab="failed" data-tab-title="✗ #482 Round prices half up · shop" hidden>. The dot has a shape for each state.
const DOTS = {
  failed: '<circle cx="11.5" cy="11.5" r="4.5" fill="#cf3a34"/><path d="m9.8 9.8 3.4 3.400m0-3.4-3.4 3.4" stroke="#fff" stroke-width="1.3"/>',
  error: '<path d="M11.5 6.5 16 15.500H7z" fill="#865bc4"/>',
  blocked: '<rect x="7" y="7" width="9" height="9" rx="2" fill="#b8740f"/><path d="M10.2 9.200v4.600M12.8 9.200v4.6" stroke="#fff" stroke-width="1.4"/>',
  running: '<circle cx="11.5" cy="11.5" r="3.7" fill="#fff" stroke="#3a70d4" stroke-width="1.8" stroke-dasharray="16 7"/>',
  queued: '<circle cx="11.5" cy="11.5" r="3.7" fill="#fff" stroke="#b8740f" stroke-width="1.6" stroke-dasharray="2.6 2"/>',
  warnings: '<circle cx="11.5" cy="11.5" r="3.7" fill="#fff" stroke="#b8740f" stroke-width="1.8"/>',
  succeeded: '<circle cx="11.5" cy="11.5" r="3.7" fill="#fff" stroke="#4d9677" stroke-width="1.8"/>',
};
const BRAND = '<rect width="16" height="16" rx="3.5" fill="#12323c"/><path d="M3 3h7v3H3zm0 7h7v3H3z" fill="#fff"/><path d="M6 6.500h7v3H6z" fill="#e0b26f"/>';
const tabIcon = document.getElementById("tab-icon");
const plainIcon = tabIcon.getAttribute("href");
let tabState = "";
const showTab = () => {
  const told = document.querySelector("[data-tab]");
  if (!told) return;
  if (told.dataset.tabTitle && document.title !== told.dataset.tabTitle) document.title = told.dataset.tabTitle;
  if (told.dataset.tab === tabState) return;
  tabState = told.dataset.tab;
  const dot = DOTS[tabState];
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${BRAND}${dot}</svg>`;
  tabIcon.setAttribute("href", dot ? `data:image/svg+xml,${encodeURIComponent(svg)}` : plainIcon);
};
showTab();
document.addEventListener("htmx:afterSettle", showTab);
