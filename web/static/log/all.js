// All output of a run: the logs of its jobs, one after the other, each below a line with the job's name.
//
// Lines are numbered through here; what is shown in the margin is the line's number in its job, and leads to it there.

import { getJson } from "./json.js";
import { LogLines } from "./lines.js";

const AGAIN_MS = 2000;

export class AllLines extends EventTarget {
  /** `address`: of the run's page. `jobs`: [place, name, lines, when it began] of each. Events: LogLines', and "moved". */
  constructor(address, jobs) {
    super();
    this.address = address;
    this.parts = [];
    this.partial = null;
    this.marks = Object.assign(new EventTarget(), {
      steps: new Int32Array(0), heads: new Map(), folds: new Map(), kinds: new Map(), errors: [], warnings: [], counts: [0, 0], starts: {},
      load: () => this.#load(), watch: () => {}, close: () => {},
    });
    this.#take(jobs);
  }

  get(number) {
    const part = this.#partOf(number);
    if (!part) return undefined;
    const n = number - part.before - 1;
    if (!n) return { n: 0, kind: "job", text: part.name, step: part.place, at: 0, href: `${this.address}/jobs/${part.place}` };
    const line = part.lines.get(n);
    if (!line) return undefined;
    return { ...line, step: part.place, api: part.lines.api, href: `${this.address}/jobs/${part.place}#L${n}` };
  }

  label(number) {
    const part = this.#partOf(number);
    return part ? number - part.before - 1 || "" : number;
  }

  want(first, last) {
    for (const part of this.parts) {
      const [from, to] = [Math.max(1, first - part.before - 1), Math.min(part.lines.count, last - part.before - 1)];
      if (from <= to) part.lines.want(from, to);
    }
  }

  wantAhead() {
    // Only what is in sight: what comes next may be another job's.
  }

  /** Ask now and then how far the jobs are. */
  follow() {
    this.isLive = true;
    this.timer = setInterval(async () => {
      if (document.hidden) return;
      try {
        const { jobs, is_live: isLive } = await getJson(`${this.address}/lines`);
        if (this.#take(jobs)) this.dispatchEvent(new Event("lines"));
        if (isLive) return;
        this.stop();
        this.dispatchEvent(new Event("end"));
      } catch (error) {
        this.dispatchEvent(new CustomEvent("failure", { detail: error }));
      }
    }, AGAIN_MS);
  }

  close() {
    this.stop();
    for (const { lines } of this.parts) lines.close();
  }

  /** No more lines will come. */
  stop() {
    this.isLive = false;
    clearInterval(this.timer);
  }

  async search(text) {
    const found = await Promise.all(this.parts.map(async (part) => (part.lines.count ? [part, await part.lines.search(text)] : [part, []])));
    return found.flatMap(([part, lines]) => lines.map((line) => part.before + 1 + line));
  }

  // Jobs have so many lines now. Returns whether that is news.
  #take(jobs) {
    const known = new Map(this.parts.map((part) => [part.place, part]));
    if (jobs.length === this.parts.length && jobs.every(([place, , lines]) => known.get(place)?.lines.count === lines)) return false;
    let count = 0;
    this.parts = jobs.map(([place, name, total, began]) => {
      const lines = known.get(place)?.lines ?? this.#linesOf(place);
      lines.count = total;
      this.marks.starts[place] = began;
      const part = { place, name, before: count, lines };
      count += total + 1;
      return part;
    });
    this.count = count;
    this.#count();
    const moves = this.parts.filter((part) => known.has(part.place)).map((part) => [known.get(part.place).before, part.before]);
    if (moves.some(([old, now]) => old !== now)) {
      const map = (number) => { const [old, now] = moves.findLast(([begin]) => begin < number) ?? [0, 0]; return number - old + now; };
      this.dispatchEvent(new CustomEvent("moved", { detail: map }));
    }
    return true;
  }

  // What stands out, by the numbers that lines have here.
  #count() {
    const { marks } = this;
    marks.steps = new Int32Array(this.count);
    marks.heads.clear();
    marks.kinds.clear();
    marks.errors = [];
    marks.warnings = [];
    marks.counts = [0, 0];
    for (const { place, before, lines } of this.parts) {
      marks.steps.fill(place, before, before + lines.count + 1);
      marks.heads.set(place, before + 1);
      lines.marks.counts.forEach((more, at) => { marks.counts[at] += more; });
      for (const line of lines.marks.errors) { marks.errors.push(before + 1 + line); marks.kinds.set(before + 1 + line, "e"); }
      for (const line of lines.marks.warnings) { marks.warnings.push(before + 1 + line); marks.kinds.set(before + 1 + line, "w"); }
    }
  }

  async #load() {
    await Promise.all(this.parts.filter((part) => part.lines.count > part.lines.marks.known).map((part) => part.lines.marks.load()));
    this.#count();
    this.marks.dispatchEvent(new Event("marks"));
  }

  #linesOf(place) {
    const lines = new LogLines(`/api/v1${this.address}/jobs/${place}`, `${this.address}/jobs/${place}`, 0);
    for (const name of ["lines", "failure"]) lines.addEventListener(name, (event) => this.dispatchEvent(new CustomEvent(name, { detail: event.detail })));
    return lines;
  }

  #partOf(number) {
    let [low, high] = [0, this.parts.length];
    while (low < high) { const middle = (low + high) >> 1; if (this.parts[middle].before < number) low = middle + 1; else high = middle; }
    return this.parts[low - 1];
  }
}
