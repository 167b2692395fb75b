// Which lines of a log are shown: those of the chosen steps, without what is folded away.

export class Shown {
  /** `lines`: of the log. All are shown at first. */
  constructor(lines) {
    this.lines = lines;
    this.only = null; // a Set of steps; null: all
    this.closed = new Set(); // first lines of folds
    this.touched = new Set(); // folds that somebody opened or closed
    this.kept = null; // Uint32Array of line numbers; null: all lines
    this.count = 0;
    this.done = 0; // lines that were looked at
    this.hidden = new Map(); // fold -> how many of its lines are not shown
    this.away = new Map(); // step -> the fold that hides its lines from here on
  }

  get total() {
    return this.kept ? this.count : this.lines.count;
  }

  lineOf(row) {
    return this.kept ? this.kept[row] : row + 1;
  }

  /** The row of a line; of one that is not shown, the row after it. */
  rowOf(line) {
    if (!this.kept) return line - 1;
    let [low, high] = [0, this.count];
    while (low < high) { const middle = (low + high) >> 1; if (this.kept[middle] < line) low = middle + 1; else high = middle; }
    return low;
  }

  has(line) {
    return !this.kept || this.kept[this.rowOf(line)] === line;
  }

  /** The fold that begins with a line: a group that was printed, or, where all steps are shown, a step. */
  foldAt(line) {
    const group = this.lines.marks.folds.get(line);
    if (group) return group;
    const step = this.lines.marks.steps[line - 1];
    if (step < 0 || this.lines.marks.heads.get(step) !== line || this.only?.size === 1) return undefined;
    return { first: line, last: 0, isStep: true, step };
  }

  /** The innermost fold that a line is in, or begins. */
  foldAround(line) {
    if (this.foldAt(line)) return this.foldAt(line);
    const { steps, folds, heads } = this.lines.marks;
    const step = steps[line - 1];
    const found = [...folds.values()].findLast((fold) => fold.first < line && (!fold.last || fold.last >= line) && steps[fold.first - 1] === step);
    return found ?? (heads.has(step) ? this.foldAt(heads.get(step)) : undefined);
  }

  /** Close folds, or open them: their first lines. */
  fold(firsts, close) {
    for (const first of firsts) {
      this.touched.add(first);
      if (close) this.closed.add(first); else this.closed.delete(first);
    }
    this.refresh();
  }

  /** What was printed closed is closed, unless somebody opened it or an error is in it. Returns whether that is news. */
  closeByThemselves() {
    let isNews = false;
    for (const fold of this.lines.marks.folds.values()) {
      if (this.touched.has(fold.first)) continue;
      const close = fold.kind !== "open" && !fold.hasError;
      if (close === this.closed.has(fold.first)) continue;
      if (close) this.closed.add(fold.first); else this.closed.delete(fold.first);
      isNews = true;
    }
    if (isNews) this.refresh();
    return isNews;
  }

  /** Open whatever hides a line. */
  reveal(line) {
    if (this.has(line)) return;
    const { steps, folds, heads } = this.lines.marks;
    const step = steps[line - 1];
    if (this.only && !this.only.has(step)) this.only = null;
    const around = [...folds.values()].filter((fold) => fold.first < line && (!fold.last || fold.last >= line) && steps[fold.first - 1] === step);
    this.fold([...around.map((fold) => fold.first), heads.get(step)], false);
  }

  /** After anything changed. */
  refresh() {
    this.version = (this.version ?? 0) + 1;
    this.hidden.clear();
    this.away.clear();
    this.count = this.done = 0;
    this.kept = this.only || this.closed.size ? new Uint32Array(Math.max(1024, this.lines.count * 2)) : null;
    this.extend();
  }

  /** Look at the lines that came since. */
  extend() {
    if (!this.kept) return;
    if (this.lines.count > this.kept.length) {
      const more = new Uint32Array(this.lines.count * 2);
      more.set(this.kept);
      this.kept = more;
    }
    const { steps, folds, heads } = this.lines.marks;
    for (let line = this.done + 1; line <= this.lines.count; line++) {
      const step = steps[line - 1] ?? -1;
      const isHead = heads.get(step) === line;
      if (this.only && !this.only.has(step)) continue;
      const inStep = step >= 0 && !isHead && this.closed.has(heads.get(step)) && this.only?.size !== 1;
      let fold = this.away.get(step);
      if (fold?.last && fold.last < line) { this.away.delete(step); fold = undefined; }
      const begins = folds.get(line);
      if (begins) {
        fold = undefined;
        if (this.closed.has(line)) this.away.set(step, begins); else this.away.delete(step);
      }
      if (inStep) this.#hide(heads.get(step));
      else if (fold) this.#hide(fold.first);
      else this.kept[this.count++] = line;
    }
    this.done = this.lines.count;
  }

  #hide(first) {
    this.hidden.set(first, (this.hidden.get(first) ?? 0) + 1);
  }
}
