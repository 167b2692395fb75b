// The log's view: only the rows that can be seen exist. Follows the end, searches, folds steps, links to lines.

import { append, strip } from "./ansi.js";
import { LogLines } from "./loglines.js";

const ROW = 20; // px, as in app.css
const MARGIN = 20; // rows beyond what is seen
const MAX_HEIGHT = 12_000_000; // px; browsers end somewhere above, and beyond it scrolling is proportional
const MAX_CHARACTERS = 4000; // of a row
const UNITS = ["B", "kB", "MB", "GB", "TB"];

const panel = document.getElementById("log");
const view = panel.querySelector(".log-view");
const space = panel.querySelector(".log-space");
const rows = panel.querySelector(".log-lines");
const button = (name) => document.getElementById(`log-${name}`);
const say = (text) => { document.getElementById("said").textContent = text; };

const lines = new LogLines(panel.dataset.api, panel.dataset.pages, Number(panel.dataset.lines));
const folded = new Set();
let shown = null; // Uint32Array of line numbers when steps are folded, else all lines
let heads = new Map(); // step -> its first line
const hidden = new Map(); // folded step -> how many of its lines are not shown
let following = false;
let selected = null; // [first, last]
let query = "";
let matches = [];
let match = -1;

const total = () => (shown ? shown.length : lines.count);
const lineOf = (row) => (shown ? shown[row] : row + 1);
const rowOf = (line) => {
  if (!shown) return line - 1;
  let [low, high] = [0, shown.length];
  while (low < high) { const middle = (low + high) >> 1; if (shown[middle] < line) low = middle + 1; else high = middle; }
  return low;
};
const height = () => Math.min(MAX_HEIGHT, total() * ROW);
const seen = () => Math.ceil(view.clientHeight / ROW);
const isScaled = () => total() * ROW > MAX_HEIGHT;
const firstRow = () => {
  if (!isScaled()) return Math.floor(view.scrollTop / ROW);
  return Math.round((view.scrollTop / Math.max(1, height() - view.clientHeight)) * (total() - seen()));
};

function scrollToRow(row) {
  const target = isScaled() ? (row / Math.max(1, total() - seen())) * (height() - view.clientHeight) : row * ROW;
  view.scrollTop = Math.max(0, target);
}

function showLine(line) {
  setFollowing(false);
  unfold(line);
  draw();
  scrollToRow(Math.max(0, rowOf(line) - Math.floor(seen() / 3)));
  draw();
}

let widest = 0;
function draw() {
  space.style.height = `${height() + (lines.partial ? ROW : 0)}px`;
  if (following) view.scrollTop = view.scrollHeight;
  const top = Math.max(0, firstRow());
  const [from, to] = [Math.max(0, top - MARGIN), Math.min(total(), top + seen() + MARGIN)];
  if (to > from) lines.want(lineOf(from), lineOf(to - 1));
  const made = document.createDocumentFragment();
  for (let row = from; row < to; row++) made.append(rowFor(lineOf(row), row > 0 ? lineOf(row - 1) : 0));
  if (lines.partial && to === total()) made.append(rowFor(lines.count + 1, 0, lines.partial));
  const offset = isScaled() ? view.scrollTop - (top - from) * ROW : from * ROW;
  rows.style.transform = `translateY(${offset}px)`;
  rows.replaceChildren(made);
  if (rows.scrollWidth > widest) { widest = rows.scrollWidth; space.style.minWidth = `${widest}px`; }
}

function rowFor(number, before, line = lines.get(number)) {
  const row = document.createElement("div");
  row.className = "l";
  const link = row.appendChild(document.createElement("a"));
  link.className = "n";
  link.href = `#L${number}`;
  link.tabIndex = -1;
  link.textContent = number;
  const text = document.createElement("span");
  if (!line) {
    row.append(text);
    text.className = "t waiting";
    return row;
  }
  if (line.at) link.title = new Date(line.at * 1000).toLocaleString();
  row.classList.add(`k-${line.kind}`);
  if (line.outcome) row.classList.add(`o-${line.outcome}`);
  if (selected && number >= selected[0] && number <= selected[1]) row.classList.add("chosen");
  if (matches[match] === number) row.classList.add("current");
  const mark = row.appendChild(document.createElement("span"));
  mark.className = "s";
  const step = line.step ?? -1;
  if (line.kind === "start") mark.append(foldButton(step));
  else if (step >= 0 && (lines.get(before)?.step ?? -1) !== step) markStep(mark, step);
  row.append(text);
  text.className = "t";
  write(text, line);
  if (line.kind === "start") row.append(...told(step));
  return row;
}

// Steps that run at the same time mix their lines: the first of each stretch says whose it is.
function markStep(mark, step) {
  mark.textContent = step + 1;
  mark.title = document.getElementById(`step-${step}`)?.textContent ?? "";
}

// Beside a step's first line: its number, how it went as the timeline above has it, and what is folded away.
function told(step) {
  const note = (kind, text) => {
    const made = document.createElement("span");
    made.className = kind;
    made.textContent = text;
    return made;
  };
  const row = document.getElementById(`step-${step}`)?.closest("tr");
  const state = row?.dataset.state;
  const made = [note("w", `#${step + 1}`)];
  const took = row?.querySelector("td.num").textContent.trim();
  if (took) made.push(note(`w status-${state}`, state === "failed" || state === "cancelled" ? `${state}, ${took}` : took));
  if (folded.has(step)) made.push(note("w", hidden.get(step) === 1 ? "1 line" : `${(hidden.get(step) ?? 0).toLocaleString()} lines`));
  return made;
}

function write(element, line) {
  let text = line.text;
  if (line.kind === "finish") text = finished(line);
  if (line.kind === "progress" && !line.n && line.total_bytes) text = `${text}: ${size(line.current_bytes ?? 0)} of ${size(line.total_bytes)}`;
  const cut = text.length > MAX_CHARACTERS;
  if (cut) text = text.slice(0, MAX_CHARACTERS);
  append(element, text, query ? places(strip(text)) : [], cut || !line.n);
  if (cut) {
    const more = element.appendChild(document.createElement("a"));
    more.href = `${lines.api}/log?first=${line.n}&limit=1`;
    more.textContent = ` … ${(line.text.length - MAX_CHARACTERS).toLocaleString()} more characters`;
  }
}

// As the pages have it: decimal units, three digits.
function size(bytes) {
  let power = 0;
  while (power < UNITS.length - 1 && bytes >= 999.5 * 1000 ** power) power++;
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${UNITS[power]}`;
}

function finished(line) {
  const time = line.duration_s ? ` in ${line.duration_s < 60 ? `${line.duration_s.toFixed(2)} s` : `${Math.floor(line.duration_s / 60)} min ${Math.round(line.duration_s % 60)} s`}` : "";
  if (line.outcome === "cached") return "cached";
  return `${line.outcome}${time}${line.reason ? `: ${line.reason}` : ""}`;
}

function places(plain) {
  const found = [];
  const text = plain.toLowerCase();
  const wanted = query.toLowerCase();
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) found.push([at, at + wanted.length]);
  return found;
}

// Folding

function foldButton(step) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "fold";
  made.tabIndex = -1;
  made.dataset.step = step;
  const closed = folded.has(step);
  made.setAttribute("aria-expanded", String(!closed));
  made.setAttribute("aria-label", closed ? "Unfold the step" : "Fold the step");
  const svg = made.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
  svg.setAttribute("class", "icon");
  svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "use")).setAttribute("href", `${document.body.dataset.sprite}#${closed ? "right" : "down"}`);
  return made;
}

async function findHeads() {
  const all = await lines.mapSteps();
  heads = new Map();
  for (let i = 0; i < lines.count; i++) if (all[i] >= 0 && !heads.has(all[i])) heads.set(all[i], i + 1);
}

async function fold(steps, closed) {
  await findHeads();
  for (const step of steps ?? heads.keys()) if (closed) folded.add(step); else folded.delete(step);
  refold();
  draw();
}

// Which lines are left: all but those of folded steps, whose first lines stay.
function refold() {
  button("fold").setAttribute("aria-pressed", String(folded.size > 0));
  if (!folded.size) { shown = null; return; }
  const kept = new Uint32Array(lines.count);
  let count = 0;
  hidden.clear();
  for (let i = 0; i < lines.count; i++) {
    const step = lines.steps[i];
    if (step >= 0 && !heads.has(step)) heads.set(step, i + 1);
    if (step < 0 || !folded.has(step) || heads.get(step) === i + 1) kept[count++] = i + 1;
    else hidden.set(step, (hidden.get(step) ?? 0) + 1);
  }
  shown = kept.subarray(0, count);
}

function unfold(line) {
  if (!folded.size) return;
  folded.delete(lines.steps[line - 1]);
  refold();
}

rows.addEventListener("click", (event) => {
  const toggle = event.target.closest(".fold");
  if (toggle) fold([Number(toggle.dataset.step)], !folded.has(Number(toggle.dataset.step)));
});
button("fold").addEventListener("click", () => fold(null, !folded.size));

// For the keyboard: the next step's first line, or the one before; and the step of the line where one is.
const here = () => (selected ? selected[0] : lineOf(Math.max(0, firstRow())));
async function goToStep(forward) {
  await findHeads();
  const starts = [...heads.entries()].sort((one, other) => one[1] - other[1]);
  const at = here();
  const found = forward ? starts.find(([, line]) => line > at) : starts.findLast(([, line]) => line < at);
  if (!found) return;
  select(found[1], found[1]);
  showLine(found[1]);
  say(document.getElementById(`step-${found[0]}`)?.closest("tr").textContent ?? `Step ${found[0] + 1}`);
}
async function foldHere() {
  const step = (await lines.mapSteps())[here() - 1];
  if (step < 0) return;
  await fold([step], !folded.has(step));
  say(folded.has(step) ? "Folded" : "Unfolded");
}

// Following

function setFollowing(on) {
  following = on;
  button("follow").setAttribute("aria-pressed", String(on));
}
button("follow").addEventListener("click", () => { setFollowing(!following); draw(); });
let drawn = 0;
view.addEventListener("scroll", () => {
  if (following && view.scrollTop + view.clientHeight < view.scrollHeight - 2 * ROW) setFollowing(false);
  cancelAnimationFrame(drawn);
  drawn = requestAnimationFrame(draw);
});
new ResizeObserver(() => draw()).observe(view);

// Links to lines: #L12 and #L12-L20; shift-click makes a range. A line is of the log that is shown: its page has an
// address of its own, also where the page of the run chose it.

const LINES = /^#L(\d+)(?:-L(\d+))?$/;
const address = panel.dataset.address && location.pathname !== panel.dataset.address ? panel.dataset.address + location.search : "";
function readHash() {
  const found = LINES.exec(location.hash);
  if (!found) return;
  if (address) history.replaceState(null, "", `${address}${location.hash}`);
  const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
  selected = [Math.min(first, last), Math.max(first, last)];
  lines.count = Math.max(lines.count, Number(panel.dataset.lines));
  showLine(Math.min(selected[0], Math.max(1, lines.count)));
  panel.scrollIntoView({ block: "nearest" });
}
function select(one, other) {
  selected = [Math.min(one, other), Math.max(one, other)];
  history.replaceState(null, "", `${address}#L${selected[0]}${selected[0] === selected[1] ? "" : `-L${selected[1]}`}`);
}
rows.addEventListener("click", (event) => {
  const link = event.target.closest("a.n");
  if (!link) return;
  event.preventDefault();
  const number = Number(link.textContent);
  select(event.shiftKey && selected ? selected[0] : number, number);
  setFollowing(false);
  draw();
});
addEventListener("hashchange", readHash);

// Searching: the server knows all matches; rows mark them as they are drawn.

async function search(forward) {
  const text = button("text").value;
  const before = text === query ? matches[match] : undefined;
  if (text !== query || panel.dataset.live) {
    query = text;
    matches = text ? await lines.search(text) : [];
  }
  const from = before ?? lineOf(firstRow());
  const isNext = (line) => (forward ? line > from || (line === from && !before) : line < from || (line === from && !before));
  match = forward ? matches.findIndex(isNext) : matches.findLastIndex(isNext);
  if (match < 0) match = forward ? 0 : matches.length - 1;
  const told = !text ? "" : matches.length ? `${(match + 1).toLocaleString()} of ${matches.length.toLocaleString()}` : "none";
  button("found").textContent = told;
  if (matches.length) showLine(matches[match]); else draw();
}
panel.querySelector(".log-search").addEventListener("submit", (event) => { event.preventDefault(); search(true); });
button("previous").addEventListener("click", () => search(false));
button("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); search(false); }
  if (event.key === "Escape") { event.target.value = ""; search(true); view.focus(); }
});
view.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n" || event.key === "N") search(event.key === "n");
  else if (event.key === "]" || event.key === "[") goToStep(event.key === "]");
  else if (event.key === "z") foldHere();
  else if (event.key === "f") { setFollowing(!following); draw(); }
  else if (event.key === "End") { if (panel.dataset.live) setFollowing(true); draw(); }
});

// What comes

lines.addEventListener("lines", () => { if (folded.size) refold(); draw(); });
lines.addEventListener("failure", (event) => say(`The log cannot be read: ${event.detail.message}`));
lines.addEventListener("end", () => { delete panel.dataset.live; say(panel.dataset.address ? "The job has ended" : "The run has ended"); });

document.addEventListener("htmx:afterSettle", (event) => { if (["steps", "job"].includes(event.detail.target.id)) draw(); });

const isLive = Boolean(panel.dataset.live);
if (isLive) lines.follow(Number(panel.dataset.after));
setFollowing(isLive && !LINES.test(location.hash));
draw();
readHash();
if (panel.dataset.failed && !LINES.test(location.hash)) { scrollToRow(total()); draw(); }
