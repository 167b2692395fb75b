// The page of a run: what is chosen in the tree, the strip or the graph is shown at the right, without another page.

import { foresee } from "./log/json.js";
import { firstLines } from "./log/lines.js";
import { LogPanel } from "./log/panel.js";
import { copyLink } from "./log/taking.js";
import { patch } from "./patch.js";
import "./notify.js";

const PHONE = matchMedia("(max-width: 760px)");
const $ = (what) => document.querySelector(what);
const say = (text) => { $("#said").textContent = text; };

let log = null;
const openLog = () => { log = $("#log") ? new LogPanel($("#log")) : null; };

// Choosing

const rows = () => [...document.querySelectorAll("#tree [role=treeitem]")];
const chosen = () => $('#tree [aria-selected="true"]');
let choices = 0;
let isChoosing = false;
let choice = Promise.resolve(); // until it is drawn

// The log that a job's page is going to show, while the server still draws that page: its marks and, where it is going
// to begin with its first line, its lines.
const ENDED_WELL = ".status-succeeded, .status-warnings, .status-reused";
function foreseeLog(href) {
  const [, job, step] = /^(\/runs\/\d+\/jobs\/\d+)(\/\d+)?$/.exec(new URL(href).pathname) ?? [];
  const row = job && rows().find((other) => other.ariaLevel === "1" && other.pathname === job);
  if (!row?.querySelector(ENDED_WELL)) return;
  foresee(`${job}/log/marks?after=0`);
  if (!step) foresee(firstLines(`/api/v1${job}`));
}

// A part of the page with something else chosen: the "pane" with it, or what is "around", the strip and the tree.
async function part(href, name) {
  const answer = await fetch(href, { headers: { Accept: "text/html", "Shiplap-Part": name } });
  if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** Show what a link of this page leads to: at once, and then what is around it. Its address takes this one's place. */
function choose(link) {
  choice = follow(link);
}

async function follow(link) {
  const { href } = link;
  const number = ++choices;
  const isSameLog = log && link.dataset.job === $("#log").dataset.place && link.dataset.step !== undefined && !$("#log").dataset.live;
  const own = rows().find((row) => row.href === href);
  if (own) for (const row of rows()) row.setAttribute("aria-selected", String(row === own));
  if (isSameLog) log.setSteps([Number(link.dataset.step)]);
  else foreseeLog(href);
  isChoosing = true;
  for (const [name, draw] of [["pane", (found) => drawPane(found, isSameLog)], ["around", drawAround]]) {
    let found;
    try {
      found = await part(href, name);
    } catch {
      if (number === choices) location.assign(href);
      return;
    }
    if (number !== choices) return;
    history.replaceState(null, "", href);
    keepingFocus(() => draw(found));
  }
  isChoosing = false;
  chosen()?.scrollIntoView({ block: "nearest" });
}

function drawPane(found, isSameLog) {
  if (isSameLog) {
    for (const name of ["#log-title", "#job"]) swap($(name), found.querySelector(name));
    Object.assign($("#log").dataset, { address: found.querySelector("#log").dataset.address, steps: found.querySelector("#log").dataset.steps });
  } else {
    log?.close();
    swap($("#pane"), found.querySelector("#pane"));
    $("#tab-pane").textContent = $("#job.gate") ? "Gate" : "Log";
    openLog();
  }
  settle();
}

function drawAround(found) {
  drawing++;
  for (const name of ["#strip", "#tree"]) renew($(name), found.querySelector(name));
  settle();
}

// What has the focus may come anew: a row, a box of the graph; or go, as a link beside the log does.
function keepingFocus(act) {
  const { activeElement: active } = document;
  const wasInTree = active?.closest("#tree");
  act();
  if (active && !active.isConnected) ((!wasInTree && document.getElementById(active.id)) || chosen())?.focus({ preventScroll: true });
}

function swap(old, fresh) {
  const made = document.importNode(fresh, true);
  old.replaceWith(made);
  globalThis.htmx?.process(made);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-choose]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (PHONE.matches && $("#panes").dataset.pane === "tree") history.pushState(null, "", location.href); // Back closes the log
  const address = link.href.baseVal ?? link.href;
  choose(link.href.baseVal === undefined ? link : { href: new URL(address, location.href).href, dataset: {} });
  if (link.closest("#tree") || PHONE.matches) show("pane");
});
$("#panes").addEventListener("click", (event) => {
  if (!event.target.closest("#go-to-line") || !log || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  log.places.goToFailure();
  show("pane");
});

// After parts came anew: the mark of what is chosen.
function settle() {
  const row = chosen();
  const mark = $("#log-state");
  const own = row?.querySelector(".status");
  if (mark && own) {
    mark.className = own.className;
    const [shown, wanted] = [mark.querySelector("use")?.getAttribute("href"), own.querySelector("use").getAttribute("href")];
    if (shown !== wanted) mark.replaceChildren(own.querySelector("svg").cloneNode(true));
  }
}

// Tree and strip come every second, with hundreds of rows of which some have changed: only these are touched. Both come
// at once, and a frame has 16 ms: one frame reads an answer, the next one changes the page by it.
const waiting = []; // to be done, one a frame
const inTurn = (act) => {
  if (document.hidden) act(); // it has no frames
  else if (waiting.push(act) === 1) requestAnimationFrame(takeTurn);
};
const takeTurn = () => {
  const [act] = waiting;
  requestAnimationFrame(() => { waiting.shift(); if (waiting.length) takeTurn(); });
  act();
};
// An answer to what was asked before something else was chosen or opened comes too late, and so does one that comes
// while that is drawn: the part is asked for anew.
let drawing = 0;
const asked = new WeakMap();
document.addEventListener("htmx:beforeRequest", ({ detail }) => { asked.set(detail.xhr, drawing); });
const polling = (part) => ["hx-get", "hx-trigger"].map((name) => part.getAttribute(name)).join(" ");
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, shouldSwap, serverResponse, xhr } = event.detail;
  if (!shouldSwap || !("patch" in target.dataset)) return;
  event.detail.shouldSwap = false;
  const isWanted = () => {
    if (asked.get(xhr) === drawing && !isChoosing) return true;
    delete target.dataset.etag;
    return false;
  };
  inTurn(() => {
    const fresh = isWanted() && new DOMParser().parseFromString(serverResponse, "text/html").getElementById(target.id);
    if (fresh) inTurn(() => { if (isWanted()) renew(target, fresh); });
  });
});
function renew(target, fresh) {
  const before = polling(target);
  patch(target, fresh);
  if (polling(target) !== before) globalThis.htmx?.process(target);
  globalThis.htmx?.trigger(target, "htmx:afterSettle", { target });
}

document.addEventListener("htmx:afterSettle", (event) => {
  settle();
  if (event.detail.target?.id === "tree") log?.stepsChanged();
});

// The tree by keys, after the practice for trees.

const isShown = (row) => row.href && row.getClientRects().length;
function near(by, fits = () => true) {
  const all = rows().filter((row) => row.href);
  const now = all.indexOf(document.activeElement?.closest?.("[role=treeitem]") ?? chosen());
  for (let at = 1; at <= all.length; at++) {
    const row = all[(now + by * at + all.length * 2) % all.length];
    if (fits(row)) return row;
  }
  return undefined;
}
function go(row) {
  if (!row) return;
  const hasFocus = document.activeElement?.closest("#tree");
  if (hasFocus) row.focus();
  choose(row);
  show("pane");
  say(row.querySelector(".name").textContent);
}
async function turn(chosenRow, open) {
  await choice; // the tree comes anew by it
  const row = document.getElementById(chosenRow.id);
  if (!row?.dataset.turn || (row.getAttribute("aria-expanded") === "true") === open) return;
  drawing++;
  await globalThis.htmx.ajax("GET", row.dataset.turn, { target: "#tree", swap: "outerHTML" });
  document.getElementById(row.id)?.focus();
}
document.addEventListener("keydown", (event) => {
  const row = event.target.closest?.("#tree [role=treeitem]");
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = rows().filter(isShown);
  const now = all.indexOf(row);
  const moves = { ArrowDown: all[now + 1], ArrowUp: all[now - 1], Home: all[0], End: all.at(-1) };
  if (event.key in moves) {
    event.preventDefault();
    moves[event.key]?.focus();
    if (moves[event.key]) choose(moves[event.key]);
  } else if (event.key === "ArrowRight") {
    event.preventDefault();
    if (row.getAttribute("aria-expanded") === "false") turn(row, true);
    else if (row.getAttribute("aria-expanded") === "true") all[now + 1]?.focus();
  } else if (event.key === "ArrowLeft") {
    event.preventDefault();
    if (row.getAttribute("aria-expanded") === "true") turn(row, false);
    else all.slice(0, now).findLast((other) => Number(other.ariaLevel) < Number(row.ariaLevel))?.focus();
  } else if (event.key === " ") {
    event.preventDefault();
    choose(row);
  }
});

// A phone shows one pane at a time.

function show(pane) {
  $("#panes").dataset.pane = pane;
  $("#run").dataset.pane = pane;
  for (const tab of document.querySelectorAll("[data-show]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.show === pane));
    tab.tabIndex = tab.dataset.show === pane ? 0 : -1;
  }
}
for (const tab of document.querySelectorAll("[data-show]")) {
  tab.addEventListener("click", () => {
    if (PHONE.matches && tab.dataset.show === "pane" && $("#panes").dataset.pane === "tree") history.pushState(null, "", location.href);
    show(tab.dataset.show);
  });
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = $(`[data-show]:not(#${tab.id})`);
    show(other.dataset.show);
    other.focus();
  });
}
addEventListener("popstate", () => { if (PHONE.matches) show("tree"); });

// The strip can be put away.

const box = $("#strip-box");
const setStrip = (open) => { box.open = open; };
if (PHONE.matches || localStorage.getItem("run-strip") === "off") setStrip(false);
const turnStrip = () => {
  setStrip(!box.open);
  if (!PHONE.matches) localStorage.setItem("run-strip", box.open ? "" : "off");
};

// Keys: the shell's table has them, and "?" draws it.

const retry = () => {
  const form = $("#job form[action$='/retry']") ?? $("#head form[action$='/retry']");
  if (!form) { say("There is nothing to retry yet"); return; }
  form.dataset.confirm ||= `${form.querySelector("button").textContent.trim()}?`;
  form.requestSubmit(form.querySelector("button"));
};
const withLog = (act) => () => { if (log) act(log); };
const isJob = (row) => row.ariaLevel === "1";
const TABLE = [
  ["j", "Next job", () => go(near(1, isJob))],
  ["k", "Previous job", () => go(near(-1, isJob))],
  ["f", "Next failure", () => { const row = near(1, (other) => "failed" in other.dataset); if (row) go(row); else say("Nothing failed"); }],
  ["]", "Next step of the log", withLog((found) => found.places.goToStep(true))],
  ["[", "Previous step of the log", withLog((found) => found.places.goToStep(false))],
  ["n", "Next match", withLog((found) => found.finder.search(true))],
  ["N", "Previous match", withLog((found) => found.finder.search(false))],
  ["e", "Next error line", withLog((found) => found.places.goToError())],
  ["w", "Wrap lines", withLog((found) => found.button("wrap").click())],
  ["s", "Times: off, since start, clock", withLog((found) => found.modes.nextTimes())],
  ["o", "Only this step", withLog((found) => found.button("only").click())],
  ["l", "Follow the end", withLog((found) => found.button("follow").click())],
  ["z", "Fold here", withLog((found) => found.folding.here())],
  ["F", "Full screen", withLog((found) => found.button("full").click())],
  ["t", "Timeline and graph", turnStrip],
  ["r", "Retry (asks)", retry],
  ["y", "Copy the link", withLog((found) => copyLink(found))],
];
// oxlint-disable-next-line no-undef -- keys.js is a script of every page
const table = typeof keys === "undefined" ? null : keys;
for (const [press, label, act] of TABLE) table?.add(press, label, act);
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("full")) log?.modes.setFull(false);
  else if (event.target.closest?.(".log-view")) chosen()?.focus();
  for (const open of document.querySelectorAll("details.pop[open], details.log-menu[open]")) open.open = false;
});
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.pop[open], details.log-menu[open]")) if (!open.contains(event.target)) open.open = false;
});

openLog();
settle();
show("pane");
chosen()?.scrollIntoView({ block: "nearest" });
const board = $("#graph .on");
if (board) {
  const [place, around] = [board.getBoundingClientRect(), $("#graph").getBoundingClientRect()];
  if (place.right > around.right || place.left < around.left) $("#graph").scrollLeft += place.left - around.left - around.width / 2;
  if (place.bottom > around.bottom) $("#graph").scrollTop += place.bottom - around.bottom + 6;
}
const bar = $("#strip-time .chosen");
if (bar && bar.getBoundingClientRect().bottom > $("#strip-time").getBoundingClientRect().bottom) $("#strip-time").scrollTop += bar.getBoundingClientRect().bottom - $("#strip-time").getBoundingClientRect().bottom + 4;
