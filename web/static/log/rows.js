// One line as a row. Rows are made once and filled again; nothing of a log becomes markup.

import { append, strip } from "../ansi.js";

const MAX_CHARACTERS = 4000; // of a row
const UNITS = ["B", "kB", "MB", "GB", "TB"];
const GAP_S = 10; // silence that is worth a word
// oxlint-disable-next-line no-control-regex
const HEAD = /^((?:\x1b\[[0-9;]*m)*)(?:::group::|##\[group\]|--- |\+\+\+ |~~~ )/;
const ENDS = /^(?:::endgroup::|##\[endgroup\])\s*$/;
// oxlint-disable-next-line no-control-regex
const SPECIAL = /[\x00-\x08\x0b-\x1f\x7f]|:\/\//; // anything that is more than its characters
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const SVG = "http://www.w3.org/2000/svg";

/** An empty row: its number, when, a mark, of which job, the text, and what is said of it. */
export function makeRow() {
  const row = document.createElement("div");
  row.n = row.appendChild(document.createElement("a"));
  row.n.tabIndex = -1;
  row.n.className = "n";
  for (const name of ["ts", "s", "t", "w"]) {
    row[name] = row.appendChild(document.createElement("span"));
    row[name].className = name;
  }
  row.t.append("");
  return row;
}

/**
 * Fill a row with line `number` of `panel`'s log; returns how many cells it is wide at least. `line` is undefined where
 * it is not here yet: then its number is shown at once.
 */
export function fillRow(row, number, line, panel) {
  const { source, shown } = panel;
  const label = source.label(number);
  row.number = number;
  row.isFilled = line !== undefined;
  if (row.n.textContent !== String(label)) row.n.textContent = label;
  row.n.href = line?.href ?? `#L${label}`;
  if (row.n.title) row.n.title = "";
  empty(row.s);
  empty(row.w);
  row.ts.textContent = line && panel.modes.times ? timeOf(line, panel) : "";
  if (!line) {
    row.className = "l";
    row.t.className = "t waiting";
    empty(row.t);
    return 0;
  }
  const mark = source.marks.kinds.get(number);
  const step = line.step ?? -1;
  const fold = shown.foldAt(number);
  let names = `l k-${line.kind}`;
  if (line.outcome) names += ` o-${line.outcome}`;
  if (mark) names += ` ${mark}`;
  if (fold && !fold.isStep) names += fold.kind === "soft" ? " g soft" : " g";
  if (panel.places.selected && number >= panel.places.selected[0] && number <= panel.places.selected[1]) names += " chosen";
  else if (panel.places.at === number) names += " at";
  if (panel.finder.current === number) names += " current";
  row.className = names;
  row.t.className = "t";
  if (fold) row.s.append(foldButton(fold, shown.closed.has(fold.first)));
  else if (step >= 0 && shown.only?.size !== 1 && panel.stepBefore(number) !== step) {
    row.s.textContent = step + 1; // steps that run at the same time mix their lines: whose the stretch is
    row.s.title = panel.stepName(step);
  }
  const cells = write(row.t, line, panel, fold && !fold.isStep);
  if (line.kind === "start") say(row.w, panel.told(step));
  if (fold && shown.closed.has(fold.first)) {
    const count = shown.hidden.get(fold.first) ?? 0;
    say(row.w, [["w", count === 1 ? "1 line" : `${count.toLocaleString()} lines`]]);
  }
  const next = source.get(number + 1);
  if (line.at && next?.at - line.at > GAP_S && (next.step ?? -1) === step) say(row.w, [["gap", `${lasted(next.at - line.at)} later`]]);
  return cells;
}

function empty(element) {
  if (element.firstChild) element.replaceChildren();
  if (element.title) element.title = "";
}

function say(element, notes) {
  for (const [kind, text] of notes) {
    const note = element.appendChild(document.createElement("span"));
    note.className = kind;
    note.textContent = text;
  }
}

function timeOf(line, panel) {
  if (!line.at) return "";
  if (panel.modes.times === "clock") return CLOCK.format(line.at * 1000);
  const began = (line.step ?? -1) >= 0 ? panel.source.marks.starts[line.step] ?? panel.began : panel.isPlain ? panel.began : 0;
  return began ? `${Math.max(0, line.at - began).toFixed(2)} s` : "";
}

function write(element, line, panel, isHead) {
  let { text } = line;
  if (line.kind === "finish") text = finished(line);
  if (line.kind === "progress" && !line.n && line.total_bytes) text = `${text}: ${size(line.current_bytes ?? 0)} of ${size(line.total_bytes)}`;
  if (isHead) text = text.replace(HEAD, "$1") || "group";
  else if (ENDS.test(text)) text = "";
  const cut = text.length > MAX_CHARACTERS;
  if (cut) text = text.slice(0, MAX_CHARACTERS);
  if (!panel.finder.query && !cut && !SPECIAL.test(text)) { // most lines: the one text node gets other characters
    if (element.childNodes.length === 1 && element.firstChild.nodeType === Node.TEXT_NODE) element.firstChild.data = text;
    else element.replaceChildren(text);
    return text.length;
  }
  element.replaceChildren();
  append(element, text, panel.finder.query ? places(strip(text), panel.finder.query) : [], cut || !line.n);
  if (cut) {
    const more = element.appendChild(document.createElement("a"));
    more.href = `${line.api ?? panel.source.api}/log?first=${line.n}&limit=1`;
    more.textContent = ` … ${(line.text.length - MAX_CHARACTERS).toLocaleString()} more characters`;
  }
  return text.length;
}

function foldButton(fold, isClosed) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "fold";
  made.tabIndex = -1;
  made.dataset.first = fold.first;
  made.setAttribute("aria-expanded", String(!isClosed));
  made.setAttribute("aria-label", `${isClosed ? "Unfold" : "Fold"} the ${fold.isStep ? "step" : "group"}`);
  const svg = made.appendChild(document.createElementNS(SVG, "svg"));
  svg.setAttribute("class", "icon");
  svg.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", `${document.body.dataset.sprite}#${isClosed ? "right" : "down"}`);
  return made;
}

// As the pages have it: decimal units, three digits.
function size(bytes) {
  let power = 0;
  while (power < UNITS.length - 1 && bytes >= 999.5 * 1000 ** power) power++;
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${UNITS[power]}`;
}

function lasted(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function finished(line) {
  const time = line.duration_s ? ` in ${line.duration_s < 60 ? `${line.duration_s.toFixed(2)} s` : `${Math.floor(line.duration_s / 60)} min ${Math.round(line.duration_s % 60)} s`}` : "";
  if (line.outcome === "cached") return "cached";
  return `${line.outcome}${time}${line.reason ? `: ${line.reason}` : ""}`;
}

function places(plain, query) {
  const found = [];
  const text = plain.toLowerCase();
  const wanted = query.toLowerCase();
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) found.push([at, at + wanted.length]);
  return found;
}
