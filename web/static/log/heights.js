// How high rows are: all alike, or, where lines wrap, as high as they turned out to be, and the mean where nobody looked.

export const ROW = 20; // px, as in run.css
const BLOCK = 512; // rows

export class EvenHeights {
  constructor(total) { this.total = total; }
  resize(total) { this.total = total; }
  get sum() { return this.total * ROW; }
  topOf(row) { return row * ROW; }
  rowAt(px) { return Math.max(0, Math.min(this.total - 1, Math.floor(px / ROW))); }
  set() { return false; }
}

export class WrappedHeights {
  constructor(total) {
    this.blocks = []; // { known: Uint16Array of rows' heights (0: not known), sum, count }
    this.knownSum = this.knownCount = 0;
    this.resize(total);
  }

  resize(total) {
    this.total = total;
    while (this.blocks.length * BLOCK < total) this.blocks.push({ known: null, sum: 0, count: 0 });
    this.blocks.length = Math.ceil(total / BLOCK);
  }

  get mean() {
    return this.knownCount ? Math.max(ROW, this.knownSum / this.knownCount) : ROW;
  }

  get sum() {
    return this.topOf(this.total);
  }

  topOf(row) {
    const [block, { mean }] = [Math.floor(row / BLOCK), this];
    let top = 0;
    for (let at = 0; at < block; at++) top += this.#high(at, mean);
    return top + this.#within(block, row % BLOCK, mean);
  }

  rowAt(px) {
    const { mean } = this;
    let [block, left] = [0, px];
    while (block < this.blocks.length - 1 && left >= this.#high(block, mean)) left -= this.#high(block++, mean);
    const known = this.blocks[block]?.known;
    let row = block * BLOCK;
    for (let at = 0; at < BLOCK && row < this.total - 1; at++, row++) {
      left -= known?.[at] || mean;
      if (left < 0) break;
    }
    return Math.max(0, row);
  }

  /** A row turned out to be so high. Returns whether that is news. */
  set(row, px) {
    const block = this.blocks[Math.floor(row / BLOCK)];
    block.known ??= new Uint16Array(BLOCK);
    const before = block.known[row % BLOCK];
    if (before === px) return false;
    block.known[row % BLOCK] = px;
    const more = before ? 0 : 1;
    block.sum += px - before;
    block.count += more;
    this.knownSum += px - before;
    this.knownCount += more;
    return true;
  }

  #high(block, mean) {
    const { sum, count } = this.blocks[block];
    return sum + (Math.min(BLOCK, this.total - block * BLOCK) - count) * mean;
  }

  #within(block, rows, mean) {
    const known = this.blocks[block]?.known;
    if (!known) return rows * mean;
    let top = 0;
    for (let at = 0; at < rows; at++) top += known[at] || mean;
    return top;
  }
}
