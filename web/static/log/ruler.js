// Beside the scrollbar: where in the log errors, warnings and matches are, and what of it is in sight.

const SVG = "http://www.w3.org/2000/svg";

export class Ruler {
  constructor(svg) {
    this.svg = svg;
    this.height = 0;
    this.drawnAt = 0;
    this.see = this.#make("see", 0, 12);
    // Asking the browser for the height with each frame would have it lay out all that has changed, twice.
    new ResizeObserver(([{ contentRect }]) => {
      this.height = contentRect.height;
      if (this.last) this.draw(...this.last);
    }).observe(svg);
  }

  /** `marks()`: [class, rows] pairs; asked for only when they are drawn anew. `total`: rows. `from`, `part`: what is in sight, of the whole. */
  draw(marks, total, from, part, key) {
    this.last = [marks, total, from, part, key];
    const { height } = this;
    this.see.setAttribute("y", from * height);
    this.see.setAttribute("height", part < 1 ? Math.max(6, part * height) : 0); // all is in sight: that needs no word
    const wanted = `${key} ${total} ${height}`;
    if (this.key === wanted || !height || performance.now() - this.drawnAt < 250 && this.key?.startsWith(`${key} `)) return;
    this.key = wanted;
    this.drawnAt = performance.now();
    const made = [this.see];
    for (const [kind, rows] of marks()) {
      let last = -3;
      for (const row of rows) {
        const y = Math.round((row / Math.max(1, total)) * (height - 4));
        if (Math.abs(y - last) < 2) continue; // one of many at the same place says it all
        last = y;
        const rect = this.#make(kind, 2, 8);
        rect.setAttribute("y", y);
        rect.setAttribute("height", 3);
        made.push(rect);
      }
    }
    this.svg.replaceChildren(...made);
  }

  #make(kind, x, width) {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("class", kind);
    rect.setAttribute("x", x);
    rect.setAttribute("width", width);
    return rect;
  }
}
