// The log's panel: following, finding, folding, one step alone, times, wrapping, links to lines, copying.

import { strip } from "../ansi.js";
import { AllLines } from "./all.js";
import { LogLines } from "./lines.js";
import { Ruler } from "./ruler.js";
import { fillRow, makeRow } from "./rows.js";
import { Shown } from "./shown.js";
import { LogView } from "./view.js";

const LINES = /^#L(\d+)(?:-L(\d+))?$/;
const TIMES = ["", "start", "clock"];
const TIMES_WORDS = { "": "Times", start: "Times: since start", clock: "Times: clock" };
const MOST_COPIED = 20_000; // lines
const PATIENCE = 200; // times 50 ms, for a line that is to be copied
const JUMP = 200; // rows at once: the scrollbar is dragged, and most of what it passes is not looked at
const REST_MS = 40;
const TURNS = 4; // that the marks are asked for
const NEAR_END = 500; // lines: an error so far before a step's end may be what it failed by
const NUMBERS = new Intl.NumberFormat();
const DATES = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const say = (text) => { document.getElementById("said").textContent = text; };
const remembered = (name) => localStorage.getItem(`log-${name}`) ?? "";

export class LogPanel {
  constructor(panel) {
    this.panel = panel;
    const found = new Map();
    this.button = (name) => found.get(name) ?? found.set(name, panel.querySelector(`#log-${name}`)).get(name);
    const { dataset: data } = panel;
    this.source = data.jobs ? new AllLines(data.address.replace(/\/all$/, ""), JSON.parse(data.jobs)) : new LogLines(data.api, data.pages, Number(data.lines));
    this.began = Number(data.began) || 0;
    this.isPlain = Boolean(data.ended); // it has no steps: one that runs for weeks tells times by the clock
    this.shown = new Shown(this.source);
    this.selected = null; // [first, last]
    this.at = 0; // the line at which the log was opened
    this.query = "";
    this.matches = [];
    this.match = -1;
    this.current = 0;
    const times = remembered("times") || (this.isPlain ? "clock" : "start");
    this.times = panel.clientWidth < 600 || times === "off" ? "" : times;
    const box = panel.querySelector(".log-view");
    this.view = new LogView(box, box.querySelector(".log-space"), box.querySelector(".log-lines"), makeRow, (row, index) => this.fill(row, index));
    this.view.drawn = () => this.drawn();
    this.view.stopped = () => this.setFollowing(false);
    this.ruler = new Ruler(panel.querySelector(".ruler"));
    this.listen();
    this.setTimes(this.times);
    if (remembered("wrap")) this.setWrap(true);
    this.begin();
  }

  // What comes first

  async begin() {
    const { dataset } = this.panel;
    const isLive = Boolean(dataset.live);
    const hasLines = LINES.test(location.hash);
    if (isLive) {
      this.source.follow(Number(dataset.after) || 0);
      this.source.marks.watch?.();
    }
    this.isEarly = Boolean(dataset.steps); // which lines are the step's is not known yet
    if (!this.isEarly) delete dataset.early;
    this.setFollowing(isLive && !hasLines);
    this.grow();
    this.readHash();
    const isKnown = await this.loadMarks();
    if (this.isClosed) return;
    this.isEarly = false;
    delete this.panel.dataset.early;
    this.setSteps(dataset.steps && isKnown ? dataset.steps.split(",").map(Number) : null, { isFirst: true });
    if (hasLines) this.readHash();
    else if (!isLive && dataset.failed) this.openAtFailure();
    else this.grow();
  }

  // A network that is away for a moment costs a moment. Returns whether the marks are here; without them all lines are shown.
  async loadMarks() {
    for (let turn = 1; !this.isClosed; turn++) {
      try {
        await this.source.marks.load();
        return true;
      } catch (error) {
        if (turn === TURNS) { this.failed(error); return false; }
      }
      await new Promise((resolve) => { setTimeout(resolve, 500 * turn); });
    }
    return false;
  }

  /** Ask for the marks that came since; says so where they do not come. */
  async areMarksHere() {
    try {
      await this.source.marks.load();
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  /** Show the lines of these steps alone, from the first one on; of all, if null. */
  setSteps(steps, { isFirst = false } = {}) {
    this.steps = steps;
    this.setOnly(Boolean(steps), isFirst);
    this.button("only").disabled = !steps;
    if (!isFirst && !this.view.isFollowing) this.view.moveTo(0);
  }

  setOnly(on, isFirst = false) {
    const eye = this.here();
    this.shown.only = on && this.steps ? new Set(this.steps) : null;
    this.button("only").setAttribute("aria-pressed", String(Boolean(this.shown.only)));
    if (!this.shown.closeByThemselves()) this.shown.refresh();
    this.grow();
    if (!isFirst && !this.view.isFollowing) this.view.show(this.shown.rowOf(this.shown.has(eye) || !on ? eye : this.shown.lineOf(0) || 1));
    this.refresh();
  }

  openAtFailure() {
    const line = this.failureLine();
    this.at = line;
    this.shown.reveal(line);
    this.grow();
    this.view.show(this.shown.rowOf(line), 0.62);
    this.refresh();
  }

  /** The line by which the step failed: its first error not far from its end, else its end. */
  failureLine() {
    const last = Number(this.panel.dataset.failed) || this.source.count;
    const { errors, steps } = this.source.marks;
    const step = steps[last - 1];
    return errors.find((line) => line >= last - NEAR_END && line < last && steps[line - 1] === step) ?? last;
  }

  goToFailure() {
    this.showLine(this.failureLine());
    this.at = this.failureLine();
    this.refresh();
  }

  // Drawing

  fill(row, index) {
    if (index >= this.view.total) {
      const cells = fillRow(row, this.source.count + 1, this.source.partial ?? undefined, this);
      row.isFilled = false; // it grows
      return cells;
    }
    const number = this.shown.lineOf(index);
    return fillRow(row, number, this.source.get(number), this);
  }

  grow() {
    if (this.isEarly || this.isClosed) return;
    this.shown.extend();
    const isPartShown = this.source.partial && (!this.shown.only || this.shown.only.has(this.source.partial.step ?? -1));
    this.view.resize(this.shown.total, isPartShown ? 1 : 0);
    this.view.later();
  }

  refresh() {
    if (this.isClosed) return;
    this.view.resize(this.shown.total, this.view.extra);
    this.view.refresh();
  }

  drawn() {
    const { view, shown, source } = this;
    if (this.isEarly) return;
    const first = view.firstSeen;
    const by = this.before === undefined ? 0 : first - this.before;
    this.before = first;
    clearTimeout(this.resting);
    if (Math.abs(by) < JUMP || view.isFollowing) this.want(by);
    else this.resting = setTimeout(() => this.want(0), REST_MS);
    const { kinds, errors, warnings, counts } = source.marks;
    const rows = (lines) => (shown.kept ? lines.filter((line) => shown.has(line)).map((line) => shown.rowOf(line)) : lines.map((line) => line - 1));
    const marked = () => [["w", rows(warnings)], ["e", rows(errors)], ["m", rows(this.matches)]];
    const key = `${kinds.size} ${shown.version ?? 0} ${this.matches.length} ${this.query}`;
    this.ruler.draw(marked, view.total, view.offset / Math.max(1, view.real), view.height / Math.max(1, view.real), key);
    this.tell(counts);
  }

  // Ask for the lines in place, and for those that come next in the direction of travel.
  want(by) {
    const { view, shown, source } = this;
    const [from, to] = [Math.max(0, view.first), Math.min(shown.total, view.first + view.pool.length)];
    if (to > from) source.want(shown.lineOf(from), shown.lineOf(to - 1));
    if (by && to > from && !shown.kept && !view.isFollowing) source.wantAhead(shown.lineOf(from), by > 0);
  }

  tell([errors, warnings]) {
    const { source, shown } = this;
    const at = this.selected?.[0] ?? this.at;
    const total = plural(source.count, "line");
    const where = at ? `line ${NUMBERS.format(at)} of ${NUMBERS.format(source.count)}` : shown.only ? `${NUMBERS.format(shown.total)} of ${total}` : total;
    set(this.button("at"), where);
    set(this.button("errors"), errors ? plural(errors, "error") : "");
    set(this.button("warnings"), warnings ? plural(warnings, "warning") : "");
    const text = this.button("text");
    const wanted = `Search ${total}`;
    if (text.placeholder !== wanted) text.placeholder = wanted;
    const below = this.stoppedAt === undefined || this.view.isFollowing ? 0 : source.count - this.stoppedAt;
    const isLive = Boolean(this.panel.dataset.live);
    set(this.button("below"), below > 0 && isLive ? `${plural(below, "new line")} below` : "");
    this.button("below").hidden = !(below > 0 && isLive);
    set(this.button("follows"), isLive && this.view.isFollowing ? "follows the end; scrolling up stops it" : "");
  }

  /** Which step the row before a line belongs to; undefined where that is not known. */
  stepBefore(number) {
    const row = this.shown.rowOf(number);
    return row > 0 ? this.source.marks.steps[this.shown.lineOf(row - 1) - 1] : undefined;
  }

  /** The tree has news: beside a step's first line stands how it went. */
  stepsChanged() {
    for (const row of this.view.pool) if (row.classList.contains("k-start")) row.version = -1;
    this.view.later();
  }

  stepRow(step) {
    return document.querySelector(`#tree [data-job="${this.panel.dataset.place}"][data-step="${step}"]`);
  }

  stepName(step) {
    return this.stepRow(step)?.querySelector(".name").textContent ?? "";
  }

  /** Beside a step's first line: its number, and how it went as the tree has it. */
  told(step) {
    if (this.panel.dataset.jobs) return [];
    const made = [["w", `#${step + 1}`]];
    const row = this.stepRow(step);
    const took = row?.querySelector(".t")?.textContent.trim();
    const state = row?.dataset.state;
    if (took) made.push([`w status-${state}`, state === "failed" || state === "cancelled" ? `${state}, ${took}` : took]);
    return made;
  }

  // Going to lines

  showLine(line) {
    this.setFollowing(false);
    this.shown.reveal(line);
    this.button("only").setAttribute("aria-pressed", String(Boolean(this.shown.only)));
    this.view.resize(this.shown.total, this.view.extra);
    this.view.show(this.shown.rowOf(line));
    this.refresh();
  }

  here() {
    return this.selected ? this.selected[0] : this.shown.total ? this.shown.lineOf(Math.min(this.view.firstSeen, this.shown.total - 1)) : 1;
  }

  readHash() {
    const found = LINES.exec(location.hash);
    if (!found) return;
    const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
    this.source.count = Math.max(this.source.count, Number(this.panel.dataset.lines));
    this.selected = [Math.min(first, last), Math.max(first, last)];
    this.at = 0;
    // Where the page chose one of several jobs, the line is that job's from now on.
    if (document.querySelectorAll('#tree [aria-level="1"][data-job]').length > 1) this.select(first, last);
    this.showLine(Math.min(this.selected[0], Math.max(1, this.source.count)));
  }

  select(one, other) {
    this.selected = [Math.min(one, other), Math.max(one, other)];
    this.at = 0;
    const [first, last] = this.selected;
    history.replaceState(history.state, "", `${this.panel.dataset.address}${location.search}#L${first}${first === last ? "" : `-L${last}`}`);
  }

  goToError(forward = true) {
    const { errors } = this.source.marks;
    const from = this.here();
    const found = forward ? errors.find((line) => line > from) ?? errors[0] : errors.findLast((line) => line < from);
    if (found === undefined) { say("There is no error line"); return; }
    this.select(found, found);
    this.showLine(found);
  }

  async goToStep(forward) {
    if (!await this.areMarksHere()) return;
    const starts = [...this.source.marks.heads.entries()].sort((one, other) => one[1] - other[1]);
    const at = this.here();
    const found = forward ? starts.find(([, line]) => line > at) : starts.findLast(([, line]) => line < at);
    if (!found) return;
    this.select(found[1], found[1]);
    this.showLine(found[1]);
    say(this.stepName(found[0]) || `Step ${found[0] + 1}`);
  }

  // Folding

  async foldAll() {
    if (!await this.areMarksHere()) return;
    const { heads, folds } = this.source.marks;
    const firsts = this.shown.only?.size === 1 ? [...folds.keys()] : [...heads.values()];
    const close = !firsts.some((first) => this.shown.closed.has(first));
    this.toggle(firsts, close);
  }

  foldHere() {
    const fold = this.shown.foldAround(this.here());
    if (!fold) return;
    const close = !this.shown.closed.has(fold.first);
    this.toggle([fold.first], close);
    say(close ? "Folded" : "Unfolded");
  }

  toggle(firsts, close) {
    const eye = this.here();
    this.shown.fold(firsts, close);
    this.view.resize(this.shown.total, this.view.extra);
    this.button("fold").setAttribute("aria-pressed", String(this.shown.closed.size > 0));
    if (!this.view.isFollowing && this.shown.has(eye) && this.selected) this.view.show(this.shown.rowOf(eye));
    this.refresh();
  }

  // How it is shown

  setFollowing(on) {
    if (this.view.isFollowing && !on) this.stoppedAt = this.source.count;
    this.view.isFollowing = on;
    this.button("follow").setAttribute("aria-pressed", String(on));
    this.view.later();
  }

  setTimes(times) {
    this.times = times;
    this.panel.classList.toggle("no-times", !times);
    this.button("times").setAttribute("aria-pressed", String(Boolean(times)));
    set(this.button("times").querySelector("span") ?? this.button("times"), TIMES_WORDS[times]);
    this.view.refresh();
  }

  nextTimes() {
    const next = TIMES[(TIMES.indexOf(this.times) + 1) % TIMES.length];
    localStorage.setItem("log-times", next || "off");
    this.setTimes(next);
    say(next ? TIMES_WORDS[next] : "Times: off");
  }

  setWrap(on) {
    localStorage.setItem("log-wrap", on ? "1" : "");
    this.panel.classList.toggle("wrap", on);
    this.button("wrap").setAttribute("aria-pressed", String(on));
    this.view.wrap(on);
  }

  setFull(on) {
    document.body.classList.toggle("full", on);
    this.button("full").setAttribute("aria-pressed", String(on));
  }

  // Searching: the server knows all matches; rows mark them as they are drawn.

  async search(forward) {
    const text = this.button("text").value;
    const before = text === this.query ? this.matches[this.match] : undefined;
    if (text !== this.query || this.panel.dataset.live) {
      this.query = text;
      try {
        this.matches = text ? await this.source.search(text) : [];
      } catch (error) {
        this.query = "";
        this.matches = [];
        this.button("found").textContent = "no answer";
        this.failed(error);
        return;
      }
      if (this.isClosed || this.query !== text) return; // another search was begun, or another log
      if (this.shown.only) this.matches = this.matches.filter((line) => this.shown.only.has(this.source.marks.steps[line - 1]));
    }
    const from = before ?? this.here();
    const isNext = (line) => (forward ? line > from || (line === from && !before) : line < from || (line === from && !before));
    this.match = forward ? this.matches.findIndex(isNext) : this.matches.findLastIndex(isNext);
    if (this.match < 0) this.match = forward ? 0 : this.matches.length - 1;
    this.current = this.matches[this.match] ?? 0;
    const told = !text ? "" : this.matches.length ? `${(this.match + 1).toLocaleString()} of ${this.matches.length.toLocaleString()}` : "none";
    this.button("found").textContent = told;
    if (this.matches.length) this.showLine(this.current); else this.refresh();
  }

  // Taking along

  async copyLink() {
    const lines = this.selected ? location.hash : "";
    await copy(`${location.origin}${this.panel.dataset.address}${lines}`, "The link is copied");
  }

  /** The text of the chosen lines, else of what is shown. */
  async copyText() {
    const [first, last] = this.selected ? this.selected.map((line) => this.shown.rowOf(line)) : [0, this.shown.total - 1];
    if (last - first >= MOST_COPIED) { say(`These are more than ${MOST_COPIED.toLocaleString()} lines: download them`); return; }
    const lines = [];
    for (let row = first; row <= last; row++) {
      const number = this.shown.lineOf(row);
      for (let turn = 0; !this.source.get(number); turn++) {
        if (turn === PATIENCE || this.isClosed) { say("The lines do not come: nothing is copied"); return; }
        this.source.want(number, number);
        await new Promise((resolve) => { setTimeout(resolve, 50); });
      }
      lines.push(strip(this.source.get(number).text ?? ""));
    }
    await copy(`${lines.join("\n")}\n`, `${lines.length.toLocaleString()} ${lines.length === 1 ? "line is" : "lines are"} copied`);
  }

  // What is done with it

  listen() {
    const { panel, view, source } = this;
    const press = (name, act) => this.button(name)?.addEventListener("click", act);
    press("wrap", () => this.setWrap(!panel.classList.contains("wrap")));
    press("times", () => this.nextTimes());
    press("only", () => this.setOnly(!this.shown.only));
    press("follow", () => this.setFollowing(!view.isFollowing));
    press("below", () => this.setFollowing(true));
    press("full", () => this.setFull(!document.body.classList.contains("full")));
    press("fold", () => this.foldAll());
    press("previous", () => this.search(false));
    press("copy-link", () => this.copyLink());
    press("copy-text", () => this.copyText());
    panel.querySelector(".log-menu")?.addEventListener("click", (event) => { if (event.target.closest("button, a")) event.currentTarget.open = false; });
    panel.querySelector(".log-search").addEventListener("submit", (event) => { event.preventDefault(); this.search(true); });
    this.button("text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); this.search(false); }
      if (event.key === "Escape") { event.target.value = ""; this.search(true); view.box.focus(); event.stopPropagation(); }
    });
    view.box.addEventListener("keydown", (event) => { if (event.key === "End" && panel.dataset.live) this.setFollowing(true); });
    view.rows.addEventListener("click", (event) => {
      const toggle = event.target.closest(".fold");
      if (toggle) { this.toggle([Number(toggle.dataset.first)], !this.shown.closed.has(Number(toggle.dataset.first))); return; }
      const link = event.target.closest("a.n");
      if (!link || panel.dataset.jobs || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const { number } = link.parentElement;
      this.setFollowing(false);
      this.select(event.shiftKey && this.selected ? this.selected[0] : number, number);
      this.refresh();
    });
    view.rows.addEventListener("pointerover", (event) => {
      const row = event.target.closest("a.n")?.parentElement;
      const at = row && source.get(row.number)?.at;
      if (at) row.n.title = DATES.format(at * 1000);
    });
    this.hashed = () => this.readHash();
    addEventListener("hashchange", this.hashed);
    source.addEventListener("lines", () => { this.grow(); });
    source.addEventListener("moved", (event) => this.moved(event.detail));
    source.marks.addEventListener("marks", () => { this.shown.closeByThemselves(); this.grow(); this.refresh(); });
    source.addEventListener("failure", (event) => this.failed(event.detail));
    source.addEventListener("end", () => {
      delete panel.dataset.live;
      this.setFollowing(view.isFollowing);
      say(panel.dataset.ended ?? (panel.dataset.place ? "The job has ended" : "The run has ended"));
      this.loadMarks();
    });
  }

  // Lines have other numbers now, for those before them grew: what is in sight stays in sight.
  moved(map) {
    const [eye, within] = [this.here(), this.view.offset - this.view.heights.topOf(this.view.firstSeen)];
    this.matches = this.matches.map(map);
    this.shown.closed = new Set([...this.shown.closed].map(map));
    this.shown.refresh();
    this.view.resize(this.shown.total, 0);
    if (!this.view.isFollowing) this.view.put(this.view.heights.topOf(this.shown.rowOf(map(eye))) + within);
    this.refresh();
  }

  failed(error) {
    if (!this.isClosed) say(`The log cannot be read: ${error.message}`);
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.resting);
    this.setFull(false);
    this.source.close();
    this.view.close();
    removeEventListener("hashchange", this.hashed);
  }
}

function plural(count, word) {
  return `${NUMBERS.format(count)} ${word}${count === 1 ? "" : "s"}`;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

async function copy(text, told) {
  try {
    await navigator.clipboard.writeText(text);
    say(told);
  } catch {
    // Plain http has no clipboard: an area with the text in it, chosen, so that Ctrl-C takes it.
    const dialog = document.createElement("dialog");
    const area = dialog.appendChild(document.createElement("textarea"));
    dialog.setAttribute("aria-label", "Press Ctrl-C to copy, then Escape");
    area.setAttribute("aria-label", "What is to be copied");
    area.readOnly = true;
    area.value = text;
    area.rows = 12;
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    area.select();
    say("Press Ctrl-C to copy, then Escape");
  }
}
