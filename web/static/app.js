// What all pages do: the switch of colours, times that stay current, copying, questions before what cannot be undone.
"use strict";

const say = (text) => { document.getElementById("said").textContent = text; };

// Colours: system, light, dark, and round again.
const THEMES = { "": "as the system", light: "light", dark: "dark" };
const themeButton = document.getElementById("theme");
const showTheme = () => {
  const label = `Colours: ${THEMES[document.documentElement.dataset.theme ?? ""]}`;
  themeButton.title = label;
  themeButton.setAttribute("aria-label", label);
};
themeButton.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("theme", next);
  showTheme();
  say(themeButton.title);
});
showTheme();

// On a phone the menu scrolls sideways: to where one is.
document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

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
};
tell();
setInterval(tell, 1000);

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf-token"]').content;
});
document.addEventListener("htmx:afterSettle", tell);

// What is wider than the screen scrolls sideways, by keys too: then, and only then, it is a stop for them.
const reach = () => {
  for (const box of document.querySelectorAll(".scroll, .copyable code")) {
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
addEventListener("resize", reach);
document.addEventListener("htmx:afterSettle", reach);

// Polled parts are swapped only when they changed, so that nothing is taken from under a pointer; hidden pages rest.
document.addEventListener("htmx:beforeSwap", (event) => {
  const tag = event.detail.xhr.getResponseHeader("ETag");
  const target = event.detail.target;
  if (tag && target.dataset.etag === tag) event.detail.shouldSwap = false;
  else if (tag) target.dataset.etag = tag;
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.requestConfig.triggeringEvent?.type === "every") event.preventDefault();
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
    say("Copied");
  } catch {
    // Plain http has no clipboard: select the text, so that Ctrl-C takes it.
    getSelection().selectAllChildren(button.previousElementSibling);
    say("Selected: press Ctrl-C");
  }
  const use = button.querySelector("use");
  const before = use.getAttribute("href");
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
if (location.pathname === "/login" && location.hash) {
  const next = document.querySelector('form[action="/login"] input[name="next"]');
  if (next && !next.value.includes("#")) next.value += location.hash;
  const provider = document.getElementById("provider");
  if (provider) provider.search = new URLSearchParams({ next: next.value });
}

// Keys: "/" goes to the search field of the page.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const search = document.querySelector('input[type="search"]');
  if (search) { event.preventDefault(); search.focus(); }
});
