// The log's panel: what is shown of it, one step alone, following its end. Its parts are objects of their own:
// `places` (going to lines), `folding`, `finder` (searching), `modes` (times, wrapping, full screen).

import { AllLines } from "./all.js";
import { Finder } from "./finder.js";
import { Folding } from "./folding.js";
import { LogLines } from "./lines.js";
import { Modes } from "./modes.js";
import { Places } from "./places.js";
import { Ruler } from "./ruler.js";
import { fillRow, makeRow } from "./rows.js";
import { Shown } from "./shown.js";
import { copyLink, copyText } from "./taking.js";
import { LogView } from "./view.js";
import { NUMBERS, plural, say, set } from "./words.js";

const JUMP = 200; // rows at once: the scrollbar is dragged, and most of what it passes is not looked at
const REST_MS = 40;
const TURNS = 4; // that the marks are asked for
const DATES = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

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
    this.places = new Places(this);
    this.folding = new Folding(this);
    this.finder = new Finder(this);
    const box = panel.querySelector(".log-view");
    this.view = new LogView(box, box.querySelector(".log-space"), box.querySelector(".log-lines"), makeRow, (row, index) => this.fill(row, index));
    this.view.drawn = () => this.drawn();
    this.view.stopped = () => this.setFollowing(false);
    this.ruler = new Ruler(panel.querySelector(".ruler"));
    this.modes = new Modes(this);
    this.listen();
    this.begin();
  }

  // What comes first

  async begin() {
    const { dataset } = this.panel;
    const isLive = Boolean(dataset.live);
    const hasLines = this.places.isInAddress;
    if (isLive) {
      this.source.follow(Number(dataset.after) || 0);
      this.source.marks.watch?.();
    }
    this.isEarly = Boolean(dataset.steps); // which lines are the step's is not known yet
    if (!this.isEarly) delete dataset.early;
    this.setFollowing(isLive && !hasLines);
    this.grow();
    if (!this.isEarly) this.view.now(); // so that lines are asked for at once
    this.places.readHash();
    const isKnown = await this.loadMarks();
    if (this.isClosed) return;
    this.isEarly = false;
    delete this.panel.dataset.early;
    this.setSteps(dataset.steps && isKnown ? dataset.steps.split(",").map(Number) : null, { isFirst: true });
    if (hasLines) this.places.readHash();
    else if (!isLive && dataset.failed) this.places.openAtFailure();
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
    const eye = this.places.here();
    this.shown.only = on && this.steps ? new Set(this.steps) : null;
    this.button("only").setAttribute("aria-pressed", String(Boolean(this.shown.only)));
    if (!this.shown.closeByThemselves()) this.shown.refresh();
    this.grow();
    if (!isFirst && !this.view.isFollowing) this.view.show(this.shown.rowOf(this.shown.has(eye) || !on ? eye : this.shown.lineOf(0) || 1));
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
    const { view, shown, source, finder } = this;
    if (this.isEarly) return;
    const first = view.firstSeen;
    const by = this.before === undefined ? 0 : first - this.before;
    this.before = first;
    clearTimeout(this.resting);
    if (Math.abs(by) < JUMP || view.isFollowing) this.want(by);
    else this.resting = setTimeout(() => this.want(0), REST_MS);
    const { kinds, errors, warnings, counts } = source.marks;
    const rows = (lines) => (shown.kept ? lines.filter((line) => shown.has(line)).map((line) => shown.rowOf(line)) : lines.map((line) => line - 1));
    const marked = () => [["w", rows(warnings)], ["e", rows(errors)], ["m", rows(finder.matches)]];
    const key = `${kinds.size} ${shown.version ?? 0} ${finder.matches.length} ${finder.query}`;
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
    const { source, shown, places } = this;
    const at = places.selected?.[0] ?? places.at;
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

  // Following the end

  setFollowing(on) {
    if (this.view.isFollowing && !on) this.stoppedAt = this.source.count;
    this.view.isFollowing = on;
    this.button("follow").setAttribute("aria-pressed", String(on));
    this.view.later();
  }

  // What is done with it

  listen() {
    const { panel, view, source, places, folding, finder, modes } = this;
    const press = (name, act) => this.button(name)?.addEventListener("click", act);
    press("wrap", () => modes.setWrap(!panel.classList.contains("wrap")));
    press("times", () => modes.nextTimes());
    press("only", () => this.setOnly(!this.shown.only));
    press("follow", () => this.setFollowing(!view.isFollowing));
    press("below", () => this.setFollowing(true));
    press("dark", () => modes.setDark(!modes.isDark));
    press("full", () => modes.setFull(!document.body.classList.contains("full")));
    press("fold", () => folding.all());
    press("previous", () => finder.search(false));
    press("copy-link", () => copyLink(this));
    press("copy-text", () => copyText(this));
    panel.querySelector(".log-menu")?.addEventListener("click", (event) => { if (event.target.closest("button, a")) event.currentTarget.open = false; });
    panel.querySelector(".log-search").addEventListener("submit", (event) => { event.preventDefault(); finder.search(true); });
    this.button("text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); finder.search(false); }
      if (event.key === "Escape") { event.target.value = ""; finder.search(true); view.box.focus(); event.stopPropagation(); }
    });
    view.box.addEventListener("keydown", (event) => { if (event.key === "End" && panel.dataset.live) this.setFollowing(true); });
    view.rows.addEventListener("click", (event) => {
      const toggle = event.target.closest(".fold");
      if (toggle) { folding.toggle([Number(toggle.dataset.first)], !this.shown.closed.has(Number(toggle.dataset.first))); return; }
      const link = event.target.closest("a.n");
      if (!link || panel.dataset.jobs || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const { number } = link.parentElement;
      this.setFollowing(false);
      places.select(event.shiftKey && places.selected ? places.selected[0] : number, number);
      this.refresh();
    });
    view.rows.addEventListener("pointerover", (event) => {
      const row = event.target.closest("a.n")?.parentElement;
      const at = row && source.get(row.number)?.at;
      if (at) row.n.title = DATES.format(at * 1000);
    });
    source.addEventListener("lines", () => {
      this.grow();
      // Lines come before a frame: waiting for the next one would show them later. Of many logs each tells its own.
      if (!panel.dataset.jobs && !this.isEarly && !this.isClosed) view.now();
    });
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
    const [eye, within] = [this.places.here(), this.view.offset - this.view.heights.topOf(this.view.firstSeen)];
    this.finder.matches = this.finder.matches.map(map);
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
    this.modes.close();
    this.source.close();
    this.view.close();
    this.places.close();
  }
}
