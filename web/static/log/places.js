// Going to lines of a log, and choosing them: by the address, by error, by step, by where it failed.

import { say } from "./words.js";

const LINES = /^#L(\d+)(?:-L(\d+))?$/;
const NEAR_END = 500; // lines: an error so far before a step's end may be what it failed by

export class Places {
  /** `log`: the panel. */
  constructor(log) {
    this.log = log;
    this.selected = null; // [first, last]
    this.at = 0; // the line at which the log was opened
    this.hashed = () => this.readHash();
    addEventListener("hashchange", this.hashed);
  }

  get isInAddress() {
    return LINES.test(location.hash);
  }

  /** Bring a line into sight, whatever hides it. */
  show(line) {
    const { log } = this;
    log.setFollowing(false);
    log.shown.reveal(line);
    log.button("only").setAttribute("aria-pressed", String(Boolean(log.shown.only)));
    log.view.resize(log.shown.total, log.view.extra);
    log.view.show(log.shown.rowOf(line));
    log.refresh();
  }

  /** The line that is looked at: the chosen one, else the first in sight. */
  here() {
    const { shown, view } = this.log;
    return this.selected ? this.selected[0] : shown.total ? shown.lineOf(Math.min(view.firstSeen, shown.total - 1)) : 1;
  }

  /** Choose the lines that the address names, if it does. */
  readHash() {
    const { source, panel } = this.log;
    const found = LINES.exec(location.hash);
    if (!found) return;
    const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
    source.count = Math.max(source.count, Number(panel.dataset.lines));
    this.selected = [Math.min(first, last), Math.max(first, last)];
    this.at = 0;
    // Where the page chose one of several jobs, the line is that job's from now on.
    if (document.querySelectorAll('#tree [aria-level="1"][data-job]').length > 1) this.select(first, last);
    this.show(Math.min(this.selected[0], Math.max(1, source.count)));
  }

  /** Choose lines; the address says so. */
  select(one, other) {
    this.selected = [Math.min(one, other), Math.max(one, other)];
    this.at = 0;
    const [first, last] = this.selected;
    history.replaceState(history.state, "", `${this.log.panel.dataset.address}${location.search}#L${first}${first === last ? "" : `-L${last}`}`);
  }

  goToError(forward = true) {
    const { errors } = this.log.source.marks;
    const from = this.here();
    const found = forward ? errors.find((line) => line > from) ?? errors[0] : errors.findLast((line) => line < from);
    if (found === undefined) { say("There is no error line"); return; }
    this.select(found, found);
    this.show(found);
  }

  async goToStep(forward) {
    if (!await this.log.areMarksHere()) return;
    const starts = [...this.log.source.marks.heads.entries()].sort((one, other) => one[1] - other[1]);
    const at = this.here();
    const found = forward ? starts.find(([, line]) => line > at) : starts.findLast(([, line]) => line < at);
    if (!found) return;
    this.select(found[1], found[1]);
    this.show(found[1]);
    say(this.log.stepName(found[0]) || `Step ${found[0] + 1}`);
  }

  openAtFailure() {
    const { log } = this;
    const line = this.failureLine();
    this.at = line;
    log.shown.reveal(line);
    log.grow();
    log.view.show(log.shown.rowOf(line), 0.62);
    log.refresh();
  }

  /** The line by which the step failed: its first error not far from its end, else its end. */
  failureLine() {
    const { source, panel } = this.log;
    const last = Number(panel.dataset.failed) || source.count;
    const { errors, steps } = source.marks;
    const step = steps[last - 1];
    return errors.find((line) => line >= last - NEAR_END && line < last && steps[line - 1] === step) ?? last;
  }

  goToFailure() {
    this.show(this.failureLine());
    this.at = this.failureLine();
    this.log.refresh();
  }

  close() {
    removeEventListener("hashchange", this.hashed);
  }
}
