// What stands out in a log, as the server has found it: errors, warnings, folds, and the step of each line.

import { getJson } from "./json.js";

const AGAIN_MS = 3000; // how often a log that grows is asked about

export class Marks extends EventTarget {
  /** `lines`: of the log. Event: "marks" (there are more). */
  constructor(lines) {
    super();
    this.lines = lines;
    this.known = 0; // lines that the server has looked at
    this.steps = new Int32Array(1024).fill(-1); // of each line
    this.noted = 0; // lines whose step is known
    this.errors = [];
    this.warnings = [];
    this.counts = [0, 0];
    this.folds = new Map(); // first line -> { first, last (0: goes on), kind, hasError }
    this.starts = {};
    this.kinds = new Map(); // line -> "e" or "w"
    this.heads = new Map(); // step -> its first line
  }

  /** Ask the server what it has found since. Resolves when it is here. */
  load() {
    this.loading ??= this.#load().finally(() => { this.loading = null; });
    return this.loading;
  }

  /** Ask now and then, as long as the log grows and somebody looks. What does not come is asked for the next time. */
  watch() {
    this.timer = setInterval(() => { if (!document.hidden && this.lines.count > this.known) this.load().catch(() => {}); }, AGAIN_MS);
  }

  close() {
    clearInterval(this.timer);
  }

  /** A line that came by itself: its step is known before the server is asked. */
  note(line) {
    if (line.n > this.steps.length) this.#grow(line.n);
    const step = line.step ?? -1;
    this.steps[line.n - 1] = step;
    if (line.n === this.noted + 1) this.noted = line.n;
    if (step >= 0 && !(this.heads.get(step) <= line.n)) this.heads.set(step, line.n);
    if (line.kind === "start") this.starts[step] = line.at;
    if (line.kind === "warning") this.kinds.set(line.n, "w");
    else if (line.outcome === "failed") this.kinds.set(line.n, "e");
  }

  async #load() {
    const found = await getJson(`${this.lines.at}/log/marks?after=${this.known}`);
    let at = this.known;
    for (const [step, count] of found.spans) {
      if (at + count > this.steps.length) this.#grow(at + count);
      this.steps.fill(step, at, at + count);
      if (step >= 0 && !(this.heads.get(step) <= at + 1)) this.heads.set(step, at + 1);
      at += count;
    }
    this.known = found.lines;
    this.noted = Math.max(this.noted, at);
    this.lines.count = Math.max(this.lines.count, at);
    for (const line of found.errors) { this.errors.push(line); this.kinds.set(line, "e"); }
    for (const line of found.warnings) { this.warnings.push(line); this.kinds.set(line, "w"); }
    this.counts = [found.error_count, found.warning_count];
    for (const [first, last, kind, hasError] of found.folds) this.folds.set(first, { first, last, kind, hasError });
    Object.assign(this.starts, found.starts);
    this.dispatchEvent(new Event("marks"));
  }

  #grow(wanted) {
    const more = new Int32Array(Math.max(wanted, this.steps.length * 2)).fill(-1);
    more.set(this.steps);
    this.steps = more;
  }
}
