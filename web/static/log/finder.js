// Finding a text in a log: the server knows all matches; rows mark them as they are drawn.

export class Finder {
  /** `log`: the panel. */
  constructor(log) {
    this.log = log;
    this.query = "";
    this.matches = []; // lines
    this.match = -1; // which of them was gone to last
    this.current = 0; // its line
  }

  /** Go to the next match of what the field says, or to the one before. */
  async search(forward) {
    const { log } = this;
    const text = log.button("text").value;
    const before = text === this.query ? this.matches[this.match] : undefined;
    if (text !== this.query || log.panel.dataset.live) {
      this.query = text;
      try {
        this.matches = text ? await log.source.search(text) : [];
      } catch (error) {
        this.query = "";
        this.matches = [];
        log.button("found").textContent = "no answer";
        log.failed(error);
        return;
      }
      if (log.isClosed || this.query !== text) return; // another search was begun, or another log
      if (log.shown.only) this.matches = this.matches.filter((line) => log.shown.only.has(log.source.marks.steps[line - 1]));
    }
    const from = before ?? log.places.here();
    const isNext = (line) => (forward ? line > from || (line === from && !before) : line < from || (line === from && !before));
    this.match = forward ? this.matches.findIndex(isNext) : this.matches.findLastIndex(isNext);
    if (this.match < 0) this.match = forward ? 0 : this.matches.length - 1;
    this.current = this.matches[this.match] ?? 0;
    const told = !text ? "" : this.matches.length ? `${(this.match + 1).toLocaleString()} of ${this.matches.length.toLocaleString()}` : "none";
    log.button("found").textContent = told;
    if (this.matches.length) log.places.show(this.current); else log.refresh();
  }
}
