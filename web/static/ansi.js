// Text of terminals as elements. Everything becomes text nodes: nothing in a log is ever parsed as HTML.
//
// Understood: SGR (styles, 16 colours as classes, 256 and true colours), OSC 8 links to http and https, carriage
// returns (what is shown is what would be left on a line). Every other sequence is dropped. Plain addresses of http and
// https are links to just what they say.

// oxlint-disable-next-line no-control-regex -- they are what is looked for
const SEQUENCE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\]([^\x07\x1b]*)(?:\x07|\x1b\\|$)|[PX^_][^\x1b]*(?:\x1b\\|$)|[ -/]*[0-~])?/g;
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f]/g;
const STYLES = { 1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "inverse", 9: "struck" };
const ENDS = { 22: ["bold", "faint"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["struck"] };
const ADDRESS = /(?<![\p{L}\p{N}+.-])https?:\/\/[\p{L}\p{M}\p{N}\-._~:/?#[\]@!$&()*+,;=%]+/giu;
const LEVELS = [0, 95, 135, 175, 215, 255];

/**
 * Append `text`, in which `marks` ([start, end] in the plain text) are highlighted, to `parent`.
 * goesOn: there is more of the line than this, so that an address at its end may be half of one.
 */
export function append(parent, text, marks = [], goesOn = false) {
  const parts = partsOf(text);
  const addresses = addressesOf(parts, goesOn);
  let at = 0;
  for (const { plain, span, link } of parts) {
    const begin = at;
    while (at < begin + plain.length) {
      while (addresses.length && addresses[0].end <= at) addresses.shift();
      const [address, end] = [addresses[0], begin + plain.length];
      const isInside = address && address.start <= at;
      const stop = Math.min(end, isInside ? address.end : address?.start ?? end);
      let into = parent;
      if (link) into = anchor(parent, link);
      else if (isInside) into = address.element ??= anchor(parent, address.text); // it may have several colours
      if (span) into = into.appendChild(span.cloneNode());
      appendMarked(into, plain.slice(at - begin, stop - begin), marks, at);
      at = stop;
    }
  }
}

// What is shown, in stretches of one look: its text, an empty element that has the look, and where OSC 8 leads.
function partsOf(text) {
  const pen = { styles: new Set(), front: null, back: null, link: "" };
  const parts = [];
  const put = (part) => {
    const plain = part.replace(CONTROL, "");
    if (plain) parts.push({ plain, span: dress(pen), link: pen.link });
  };
  let end = 0;
  const shown = lastWritten(text);
  for (const match of shown.matchAll(SEQUENCE)) {
    put(shown.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] === "m") style(pen, match[1]);
    else if (match[3]?.startsWith("8;")) pen.link = safeLink(match[3].slice(match[3].indexOf(";", 2) + 1));
  }
  put(shown.slice(end));
  return parts;
}

// The addresses in the text that stand outside of OSC 8 links: where, and what they say.
function addressesOf(parts, goesOn) {
  const text = parts.map((part) => (part.link ? " ".repeat(part.plain.length) : part.plain)).join("");
  if (!text.includes("://")) return [];
  const found = [];
  for (const match of text.matchAll(ADDRESS)) {
    if (goesOn && match.index + match[0].length === text.length) continue;
    const address = withoutEnd(match[0]);
    if (isPlain(address)) found.push({ start: match.index, end: match.index + address.length, text: address });
  }
  return found;
}

// Without what belongs to the sentence around it: full stops and the like, and brackets that were not opened in it.
function withoutEnd(address) {
  const open = { ")": 0, "]": 0 };
  for (const letter of address) {
    if (letter === "(") open[")"]++;
    else if (letter === "[") open["]"]++;
    else if (letter in open) open[letter]--;
  }
  let end = address.length;
  for (; end; end--) {
    const last = address[end - 1];
    if (open[last] < 0) open[last]++;
    else if (!".,;:!?*".includes(last)) break;
  }
  return address.slice(0, end);
}

// Whether it leads where it seems to: "https://example.org@evil.example/" does not.
function isPlain(address) {
  const url = parsed(address);
  return url !== null && !url.username && !url.password;
}

/** The text without sequences, as `append` shows it. */
export function strip(text) {
  return lastWritten(text).replace(SEQUENCE, "").replace(CONTROL, "");
}

// "10 %\r50 %\r100 %" shows "100 %": each return begins the line anew.
function lastWritten(text) {
  if (!text.includes("\r")) return text;
  const parts = text.split("\r").filter((part) => part !== "");
  return parts.length ? parts[parts.length - 1] : "";
}

function appendMarked(parent, plain, marks, offset) {
  let from = 0;
  for (const [start, end] of marks) {
    const first = Math.max(0, start - offset);
    const last = Math.min(plain.length, end - offset);
    if (last <= first) continue;
    parent.append(plain.slice(from, first));
    parent.appendChild(document.createElement("mark")).textContent = plain.slice(first, last);
    from = last;
  }
  parent.append(plain.slice(from));
}

function anchor(parent, link) {
  const element = parent.appendChild(document.createElement("a"));
  element.href = link;
  element.rel = "noopener noreferrer nofollow";
  element.target = "_blank";
  return element;
}

function safeLink(text) {
  const url = parsed(text);
  return url && (url.protocol === "http:" || url.protocol === "https:") ? url.href : "";
}

function parsed(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

function dress(pen) {
  const names = [...pen.styles].map((name) => `a-${name}`);
  let [front, back] = [pen.front, pen.back];
  if (pen.styles.has("inverse")) [front, back] = [back, front];
  if (typeof front === "number") names.push(`a-f${front}`);
  if (typeof back === "number") names.push(`a-b${back}`);
  const coloured = typeof front === "string" || typeof back === "string";
  if (!names.length && !coloured) return null;
  const span = document.createElement("span");
  span.className = names.join(" ");
  if (typeof front === "string") span.style.color = front;
  if (typeof back === "string") span.style.backgroundColor = back;
  return span;
}

function style(pen, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) { pen.styles.clear(); pen.front = pen.back = null; }
    else if (STYLES[code]) pen.styles.add(STYLES[code]);
    else if (ENDS[code]) ENDS[code].forEach((name) => pen.styles.delete(name));
    else if (code >= 30 && code <= 37) pen.front = code - 30;
    else if (code >= 90 && code <= 97) pen.front = code - 82;
    else if (code >= 40 && code <= 47) pen.back = code - 40;
    else if (code >= 100 && code <= 107) pen.back = code - 92;
    else if (code === 39) pen.front = null;
    else if (code === 49) pen.back = null;
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes.slice(i + 1));
      if (code === 38) pen.front = colour; else pen.back = colour;
      i += used;
    }
  }
}

// What follows 38 or 48: 5;n or 2;r;g;b. Returns the colour and how many codes it took.
function extended(codes) {
  if (codes[0] === 5) return [palette(codes[1]), 2];
  if (codes[0] === 2 && codes.length >= 4) {
    const [red, green, blue] = codes.slice(1, 4).map((level) => Math.min(255, level || 0));
    return [`rgb(${red}, ${green}, ${blue})`, 4];
  }
  return [null, codes.length];
}

function palette(index) {
  if (!(index >= 0 && index <= 255)) return null;
  if (index < 16) return index;
  if (index >= 232) { const grey = 8 + (index - 232) * 10; return `rgb(${grey}, ${grey}, ${grey})`; }
  const cube = index - 16;
  return `rgb(${LEVELS[Math.floor(cube / 36)]}, ${LEVELS[Math.floor(cube / 6) % 6]}, ${LEVELS[cube % 6]})`;
}
