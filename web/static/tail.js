// The last lines of a failed step, in the colours in which it printed them.

import { append } from "./ansi.js";

function paint() {
  for (const line of document.querySelectorAll(".tail [data-line]")) {
    const text = JSON.parse(line.dataset.line);
    delete line.dataset.line;
    line.replaceChildren();
    append(line, text);
  }
}

document.addEventListener("htmx:afterSettle", paint);
paint();
