// The lines of one log: fetched in pages when they are wanted, and kept while they are near; those that come live.

const PAGE = 1000;
const KEPT_PAGES = 120;

export class LogLines extends EventTarget {
  /**
   * `api`: the address below which lines and events are; `pages`: matches and steps. `count`: how many lines there are
   * as far as is known. Events: "lines" (more are here), "end" (no more will come).
   */
  constructor(api, pages, count) {
    super();
    this.api = api;
    this.at = pages;
    this.count = count;
    this.pages = new Map(); // page number -> array of PAGE lines, with holes
    this.asked = new Map(); // page number -> when it was asked for
    this.steps = null; // Int32Array of the step of each line, once it was wanted
  }

  get(number) {
    return this.pages.get(Math.floor((number - 1) / PAGE))?.[(number - 1) % PAGE];
  }

  /** Make sure that lines first … last come, with an event when they have. */
  want(first, last) {
    const end = Math.floor((Math.min(last, this.count) - 1) / PAGE);
    for (let page = Math.floor((first - 1) / PAGE); page <= end; page++) {
      this.#touch(page);
      for (let n = Math.max(first, page * PAGE + 1); n <= Math.min(last, (page + 1) * PAGE, this.count); n++) {
        if (!this.get(n)) { this.#fetch(page); break; }
      }
    }
  }

  /** Listen for lines after `after` as they are written. The browser reconnects by itself, behind the last id it saw. */
  follow(after) {
    const source = new EventSource(`${this.api}/events?after=${after}`);
    source.onmessage = (event) => {
      this.partial = null;
      this.#put(JSON.parse(event.data));
      this.#tell();
    };
    source.addEventListener("partial", (event) => {
      const line = JSON.parse(event.data);
      this.partial = line.text ? line : null; // a line that has begun; the last one of several
      this.#tell();
    });
    source.addEventListener("end", () => {
      source.close();
      this.partial = null;
      this.dispatchEvent(new Event("end"));
    });
    addEventListener("pagehide", () => source.close());
  }

  /** Which step each line belongs to: [step, how many lines] pairs from the server, then what came since. */
  async mapSteps() {
    if (!this.steps) {
      const { spans } = await getJson(`${this.at}/log/steps`);
      const total = Math.max(this.count, spans.reduce((sum, [, lines]) => sum + lines, 0));
      const steps = new Int32Array(Math.max(1024, total * 2)).fill(-1);
      let at = 0;
      for (const [step, lines] of spans) { steps.fill(step, at, at + lines); at += lines; }
      this.steps = steps;
      this.count = Math.max(this.count, at);
      for (const page of this.pages.values()) for (const line of page) if (line) this.#note(line);
    }
    return this.steps;
  }

  async search(text) {
    const { lines } = await getJson(`${this.at}/log/matches?text=${encodeURIComponent(text)}`);
    return lines;
  }

  #put(line) {
    const page = Math.floor((line.n - 1) / PAGE);
    let lines = this.pages.get(page);
    if (!lines) {
      lines = Array.from({ length: PAGE });
      this.pages.set(page, lines);
      this.#forget(page);
    }
    lines[(line.n - 1) % PAGE] = line;
    if (line.n > this.count) this.count = line.n;
    if (this.steps) this.#note(line);
  }

  #note(line) {
    if (line.n > this.steps.length) {
      const more = new Int32Array(this.steps.length * 2).fill(-1);
      more.set(this.steps);
      this.steps = more;
    }
    this.steps[line.n - 1] = line.step ?? -1;
  }

  // Pages are kept in the order in which they were looked at.
  #touch(page) {
    const lines = this.pages.get(page);
    if (!lines) return;
    this.pages.delete(page);
    this.pages.set(page, lines);
  }

  // Only so many pages are kept: what was not looked at for longest goes, unless it is the one that grows.
  #forget(newest) {
    for (const page of this.pages.keys()) {
      if (this.pages.size <= KEPT_PAGES) return;
      if (page !== newest && page !== Math.floor((this.count - 1) / PAGE)) this.pages.delete(page);
    }
  }

  async #fetch(page) {
    if (performance.now() - (this.asked.get(page) ?? -Infinity) < 1000) return;
    this.asked.set(page, performance.now());
    try {
      const end = (page + 1) * PAGE;
      for (let first = page * PAGE + 1; first && first <= end; ) { // where lines are long, fewer come than asked for
        const { lines, next } = await getJson(`${this.api}/log?first=${first}&limit=${end - first + 1}`);
        lines.forEach((line) => this.#put(line));
        this.#tell();
        first = next;
      }
    } catch (error) {
      this.dispatchEvent(new CustomEvent("failure", { detail: error }));
    }
  }

  #tell() {
    if (this.told) return;
    this.told = requestAnimationFrame(() => { this.told = 0; this.dispatchEvent(new Event("lines")); });
  }
}

async function getJson(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.json();
}
