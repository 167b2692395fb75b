// The lines of one job's log: fetched in pages when they are wanted, and kept while they are near; those that come live.

import { getJson } from "./json.js";
import { Marks } from "./marks.js";

const PAGE = 1000;
const FIRST = 200; // lines at a log's beginning, more than are in sight: they come before the others of their page
const KEPT_PAGES = 40;
const AGAIN_MS = 1500; // after a page that did not come
const ANEW_MS = 3000; // after a stream that was refused
const REST_MS = 10_000; // a hidden tab keeps its stream for so long

const linesFrom = (api, first, limit) => `${api}/log?first=${first}&limit=${limit}`;

/** Where the first lines of a log are, as its panel is going to ask for them. */
export const firstLines = (api) => linesFrom(api, 1, FIRST);

export class LogLines extends EventTarget {
  /**
   * `api`: the address below which lines and events are; `pages`: matches and marks. `count`: how many lines there are
   * as far as is known. Events: "lines" (more are here), "end" (no more will come), "failure".
   */
  constructor(api, pages, count) {
    super();
    this.api = api;
    this.at = pages;
    this.count = count;
    this.pages = new Map(); // page number -> array of PAGE lines, with holes
    this.asked = new Map(); // page number -> when it was asked for
    this.partial = null; // a line that has begun; the last one of several
    this.marks = new Marks(this);
  }

  get(number) {
    return this.pages.get(Math.floor((number - 1) / PAGE))?.[(number - 1) % PAGE];
  }

  /** What stands in the margin, and where that leads. */
  label(number) {
    return number;
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

  /** Ask for what comes next in the direction of travel. */
  wantAhead(line, forward) {
    for (const pages of [1, 2]) {
      const page = Math.floor((line - 1) / PAGE) + (forward ? pages : -pages);
      if (page >= 0 && page * PAGE < this.count && !this.pages.has(page)) this.#fetch(page);
    }
  }

  /**
   * Listen for lines after `after` as they are written. The browser reconnects by itself, behind the last id it saw. A
   * tab that is hidden gives its connection back, for a browser has six of them to a host.
   */
  follow(after) {
    this.last = after;
    this.isLive = true;
    this.#listen();
    const hide = () => { this.rest = setTimeout(() => this.#close(), REST_MS); };
    this.seen = () => {
      clearTimeout(this.rest);
      if (document.hidden) hide();
      else if (this.isLive && !this.source) this.#listen();
    };
    this.left = () => this.#close();
    document.addEventListener("visibilitychange", this.seen);
    addEventListener("pagehide", this.left);
    if (document.hidden) hide();
  }

  /** Nobody looks at this log any more. */
  close() {
    this.isLive = false;
    this.isClosed = true;
    this.#close();
    this.marks.close();
    clearTimeout(this.rest);
    cancelAnimationFrame(this.told);
    document.removeEventListener("visibilitychange", this.seen);
    removeEventListener("pagehide", this.left);
  }

  async search(text) {
    const { lines } = await getJson(`${this.at}/log/matches?text=${encodeURIComponent(text)}`);
    return lines;
  }

  #listen() {
    const source = this.source = new EventSource(`${this.api}/events?after=${this.last}`);
    source.onmessage = (event) => {
      this.partial = null;
      const line = JSON.parse(event.data);
      this.last = line.n;
      this.#put(line);
      this.#tell();
    };
    source.addEventListener("partial", (event) => {
      const line = JSON.parse(event.data);
      this.partial = line.text ? line : null;
      this.#tell();
    });
    source.addEventListener("end", () => {
      this.isLive = false;
      this.#close();
      this.partial = null;
      this.dispatchEvent(new Event("end"));
    });
    // A browser tries again by itself where the network was away, but not where something answered for the service that
    // is just starting anew, such as a proxy.
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED || source !== this.source) return;
      this.#close();
      this.anew = setTimeout(() => { if (this.isLive && !this.source && !document.hidden) this.#listen(); }, ANEW_MS);
    });
  }

  #close() {
    clearTimeout(this.anew);
    this.source?.close();
    this.source = null;
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
    this.marks.note(line);
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
        const { lines, next } = await getJson(linesFrom(this.api, first, first === 1 ? FIRST : end - first + 1));
        lines.forEach((line) => this.#put(line));
        if (first === 1) this.dispatchEvent(new Event("lines")); // somebody has just opened the log: without a frame between
        else this.#tell();
        first = next;
      }
    } catch (error) {
      if (this.isClosed) return;
      this.dispatchEvent(new CustomEvent("failure", { detail: error }));
      setTimeout(() => this.#tell(), AGAIN_MS); // who is drawn anew asks again
    }
  }

  #tell() {
    if (this.told || this.isClosed) return;
    this.told = requestAnimationFrame(() => { this.told = 0; this.dispatchEvent(new Event("lines")); });
  }
}
