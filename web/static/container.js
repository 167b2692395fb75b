// The page of a container: its log, in the panel that the logs of jobs have, and the log's keys.

import { LogPanel } from "./log/panel.js";
import { copyLink } from "./log/taking.js";

const panel = document.getElementById("log");
const log = panel ? new LogPanel(panel) : null;

const withLog = (act) => () => { if (log) act(log); };
const TABLE = [
  ["n", "Next match", withLog((found) => found.finder.search(true))],
  ["N", "Previous match", withLog((found) => found.finder.search(false))],
  ["e", "Next error line", withLog((found) => found.places.goToError())],
  ["w", "Wrap lines", withLog((found) => found.button("wrap").click())],
  ["s", "Times: off, since start, clock", withLog((found) => found.modes.nextTimes())],
  ["l", "Follow the end", withLog((found) => found.button("follow").click())],
  ["z", "Fold here", withLog((found) => found.folding.here())],
  ["F", "Full screen", withLog((found) => found.button("full").click())],
  ["y", "Copy the link", withLog((found) => copyLink(found))],
];
// oxlint-disable-next-line no-undef -- keys.js is a script of every page
const table = typeof keys === "undefined" ? null : keys;
if (log) for (const [press, label, act] of TABLE) table?.add(press, label, act);
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("full")) log?.modes.setFull(false);
  for (const open of document.querySelectorAll("details.log-menu[open]")) open.open = false;
});
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.log-menu[open]")) if (!open.contains(event.target)) open.open = false;
});

// One that was started again writes on: the panel that has seen its end begins anew.
let state = document.getElementById("box-head").dataset.state;
document.addEventListener("htmx:afterSettle", () => {
  const now = document.getElementById("box-head")?.dataset.state;
  if (!now || now === state) return;
  const isUp = (each) => ["running", "paused", "restarting"].includes(each);
  if (panel && isUp(now) && !isUp(state)) location.reload();
  state = now;
});
