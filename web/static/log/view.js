// A list of which only the rows in sight exist. They are made once: as it scrolls, rows that left are filled again.
//
// Browsers end somewhere above MOST px. Beyond it the scrollbar is scaled, and what is in sight is kept here, so that
// wheel, keys and fingers still move by exactly what they say. So it is where lines wrap: how high rows are turns out as
// they come into sight, and putting that right would end a movement that the browser makes smoothly by itself.

import { EvenHeights, ROW, WrappedHeights } from "./heights.js";

const SPARE = 12; // rows beyond what is seen
const MOST = 8_000_000; // px
const CELL = 7.6; // px, about: of a character

export class LogView {
  /** `box` scrolls `space`, in which are `rows`. `make()` makes a row; `fill(row, index)` fills it, and returns its cells. */
  constructor(box, space, rows, make, fill) {
    Object.assign(this, { box, space, rows, make, fill });
    this.pool = []; // rows as they stand, the first of which is number `first`
    this.first = 0;
    this.offset = 0; // px from the top of all rows to what is seen
    this.isMoved = false; // by us: the scrollbar has to follow. Else it leads, for browsers scroll smoothly by themselves
    this.total = 0;
    this.extra = 0; // rows after the last: a line that has begun
    this.version = 0;
    this.widest = 0;
    this.heights = new EvenHeights(0);
    this.isFollowing = false;
    this.height = box.clientHeight;
    this.listen();
  }

  get real() { return this.heights.sum + this.extra * ROW; }
  get tall() { return Math.min(MOST, this.real); }
  get isScaled() { return this.real > MOST; }
  get isWrapped() { return !(this.heights instanceof EvenHeights); }
  get isOurs() { return this.isScaled || this.isWrapped; } // to move, by wheel and keys
  get scale() { return this.isScaled ? (this.real - this.height) / (this.tall - this.height) : 1; }
  get seen() { return Math.ceil(this.height / ROW); }
  get most() { return Math.max(0, this.real - this.height); }
  get firstSeen() { return this.heights.rowAt(this.offset); }

  /** There are so many rows now, and so many after them. */
  resize(total, extra = 0) {
    this.total = total;
    this.extra = extra;
    this.heights.resize(total);
  }

  wrap(on) {
    const eye = this.firstSeen;
    this.heights = on ? new WrappedHeights(this.total) : new EvenHeights(this.total);
    this.rows.classList.toggle("wrapped", on);
    this.widest = 0;
    this.space.style.minWidth = "";
    this.put(this.heights.topOf(eye));
    this.refresh();
  }

  /** What rows show has changed. */
  refresh() {
    this.version++;
    this.draw();
  }

  /** Draw before the next frame; rows that are filled stay as they are. */
  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = undefined; this.draw(); });
  }

  /** Draw in this frame. */
  now() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    this.draw();
  }

  moveTo(px) {
    this.put(px);
    this.draw();
  }

  // Have this much above what is seen.
  put(px) {
    const wanted = Math.max(0, Math.min(this.most, px));
    if (wanted !== this.offset) this.isMoved = true;
    this.offset = wanted;
  }

  /** Bring a row into sight, where `part` of the height is above it. */
  show(row, part = 1 / 3) {
    this.moveTo(this.heights.topOf(row) - Math.floor(this.height * part / ROW) * ROW);
    if (this.isWrapped) this.moveTo(this.heights.topOf(row) - this.height * part);
  }

  draw() {
    this.put(this.isFollowing ? this.most : this.offset);
    let eye = this.heights.rowAt(this.offset);
    let within = this.offset - this.heights.topOf(eye);
    for (let turn = 0; turn < 3; turn++) {
      const first = Math.max(0, eye - SPARE);
      const count = Math.max(0, Math.min(this.total + this.extra - first, eye - first + this.seen + 1 + SPARE));
      this.place(first, count);
      if (!this.isWrapped || !this.measure()) break;
      if (this.isFollowing) {
        eye = this.heights.rowAt(this.most);
        within = this.most - this.heights.topOf(eye);
      }
      this.put(this.heights.topOf(eye) + within);
    }
    if (this.given !== this.tall) this.space.style.height = `${this.given = this.tall}px`;
    if (this.isBare !== !this.pool.length) this.space.classList.toggle("bare", this.isBare = !this.pool.length);
    if (!this.isScaled) this.shift(this.heights.topOf(this.first));
    this.drawn?.();
    if (this.isMoved) { // at last: to scroll, the browser lays out all that has changed
      const wanted = Math.round(this.offset / this.scale);
      if (Math.abs(this.box.scrollTop - wanted) >= 1) {
        this.box.scrollTop = wanted;
        this.own = this.box.scrollTop;
      }
      this.isMoved = false;
    }
    if (this.isScaled) this.shift(this.box.scrollTop + this.heights.topOf(this.first) - this.offset);
    this.watchWheel();
  }

  shift(top) {
    if (this.top !== top) this.rows.style.transform = `translateY(${this.top = top}px)`;
  }

  // Have rows `first` and on in place, filled.
  place(first, count) {
    const { pool } = this;
    while (pool.length < count) { const row = this.make(); row.index = -1; pool.push(row); this.rows.append(row); }
    while (pool.length > count) pool.pop().remove();
    const shift = first - this.first;
    if (shift > 0 && shift < count) {
      const moved = pool.splice(0, shift);
      pool.push(...moved);
      this.rows.append(...moved);
    } else if (shift < 0 && -shift < count) {
      const moved = pool.splice(count + shift);
      pool.unshift(...moved);
      this.rows.prepend(...moved);
    }
    this.first = first;
    let { widest } = this;
    for (let at = 0; at < count; at++) {
      const row = pool[at];
      if (row.index === first + at && row.version === this.version && row.isFilled && first + at < this.total) continue;
      row.index = first + at;
      row.version = this.version;
      widest = Math.max(widest, this.fill(row, first + at));
    }
    if (widest > this.widest && !this.isWrapped) {
      this.widest = widest;
      this.space.style.minWidth = `${Math.ceil((widest + 24) * CELL)}px`;
    }
  }

  // How high the rows in place are. Returns whether that is news.
  measure() {
    let isNews = false;
    const heights = this.pool.map((row) => row.offsetHeight);
    heights.forEach((px, at) => { if (this.first + at < this.total && this.heights.set(this.first + at, px)) isNews = true; });
    return isNews;
  }

  listen() {
    this.box.addEventListener("scroll", () => {
      const now = this.box.scrollTop;
      if (now === this.own) { this.own = undefined; return; }
      if (!this.isScaled) this.offset = now;
      else if (this.isTouched) this.offset += now - this.seenAt;
      else this.offset = now * this.scale;
      this.seenAt = now;
      if (this.isFollowing && this.offset < this.most - 2 * ROW) this.stopped?.();
      if (this.isTouched && this.isScaled) this.drawHere(now);
      else this.later();
    }, { passive: true });
    this.box.addEventListener("touchstart", () => { this.isTouched = true; this.seenAt = this.box.scrollTop; }, { passive: true });
    this.box.addEventListener("scrollend", () => { if (this.isTouched) { this.isTouched = false; this.isMoved = true; this.draw(); } });
    this.box.addEventListener("wheel", (event) => { if (this.isFollowing && event.deltaY < 0) this.stopped?.(); }, { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.observer = new ResizeObserver(() => {
      if (this.height === this.box.clientHeight && this.across === this.box.clientWidth) return;
      this.height = this.box.clientHeight;
      if (this.across !== this.box.clientWidth && this.isWrapped) this.heights = new WrappedHeights(this.total);
      this.across = this.box.clientWidth;
      this.draw();
    });
    this.observer.observe(this.box);
  }

  // While a finger moves a scaled list, the scrollbar may lag behind; it is put right when the finger has left.
  drawHere(scrollTop) {
    const eye = this.heights.rowAt(this.offset);
    const first = Math.max(0, eye - SPARE);
    this.place(first, Math.max(0, Math.min(this.total + this.extra - first, eye - first + this.seen + 1 + SPARE)));
    this.shift(scrollTop + this.heights.topOf(first) - this.offset);
    this.drawn?.();
  }

  // Only a list that is ours to move needs the wheel, so only then does the page wait for it.
  watchWheel() {
    if (this.isOurs === Boolean(this.turn)) return;
    if (this.turn) this.box.removeEventListener("wheel", this.turn);
    this.turn = this.isOurs ? (event) => {
      if (event.ctrlKey || event.shiftKey || !event.deltaY) return;
      event.preventDefault();
      const unit = [1, ROW, this.height][event.deltaMode];
      this.put(this.offset + event.deltaY * unit);
      this.box.scrollLeft += event.deltaX * unit;
      this.later();
    } : null;
    if (this.turn) this.box.addEventListener("wheel", this.turn, { passive: false });
  }

  key(event) {
    if (!this.isOurs || event.ctrlKey || event.metaKey || event.altKey || event.target !== this.box) return;
    const page = this.height - ROW;
    const by = { ArrowDown: 2 * ROW, ArrowUp: -2 * ROW, PageDown: page, PageUp: -page, " ": event.shiftKey ? -page : page, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    if (by < 0 && this.isFollowing) this.stopped?.();
    this.moveTo(by === -Infinity ? 0 : by === Infinity ? this.most : this.offset + by);
    if (by === Infinity) this.moveTo(this.most); // the last rows are as high as they turned out to be
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }
}
