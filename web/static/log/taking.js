// Taking a log along: its link, its text.

import { strip } from "../ansi.js";
import { plural, say, toast } from "./words.js";

const MOST_COPIED = 20_000; // lines
const PATIENCE = 200; // times 50 ms, for a line that is to be copied

/** Copy the address of what `log`, a panel, shows, with the chosen lines. */
export async function copyLink(log) {
  const lines = log.places.selected ? location.hash : "";
  await copy(`${location.origin}${log.panel.dataset.address}${lines}`, "The link is copied");
}

/** Copy the text of the chosen lines, else of what is shown. */
export async function copyText(log) {
  const { shown, source, places } = log;
  const [first, last] = places.selected ? places.selected.map((line) => shown.rowOf(line)) : [0, shown.total - 1];
  if (last - first >= MOST_COPIED) { say(`These are more than ${plural(MOST_COPIED, "line")}: download them`); return; }
  const lines = [];
  for (let row = first; row <= last; row++) {
    const number = shown.lineOf(row);
    for (let turn = 0; !source.get(number); turn++) {
      if (turn === PATIENCE || log.isClosed) { say("The lines do not come: nothing is copied"); return; }
      source.want(number, number);
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    lines.push(strip(source.get(number).text ?? ""));
  }
  await copy(`${lines.join("\n")}\n`, `${plural(lines.length, "line")} ${lines.length === 1 ? "is" : "are"} copied`);
}

async function copy(text, told) {
  try {
    await navigator.clipboard.writeText(text);
    toast(told);
  } catch {
    // Plain http has no clipboard: an area with the text in it, chosen, so that Ctrl-C takes it.
    const dialog = document.createElement("dialog");
    const area = dialog.appendChild(document.createElement("textarea"));
    dialog.setAttribute("aria-label", "Press Ctrl-C to copy, then Escape");
    area.setAttribute("aria-label", "What is to be copied");
    area.readOnly = true;
    area.value = text;
    area.rows = 12;
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    area.select();
    say("Press Ctrl-C to copy, then Escape");
  }
}
