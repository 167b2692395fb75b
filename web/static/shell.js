// A terminal: xterm.js at one end, a WebSocket of the service at the other.
//
// What the shell writes is drawn, and no more: a title that it sets goes nowhere, and a link asks before it is followed.
// A browser takes all that comes at once, so the service is told what has been drawn, and waits for it.

/* global Terminal, FitAddon */

const PROTOCOL = "shiplap-terminal"; // and beside it csrf.TOKEN: a script can name no headers
const TOLD_EACH = 256 * 1024; // bytes
const $ = (id) => document.getElementById(id);
const box = $("terminal");
const token = document.querySelector('meta[name="csrf-token"]').content;

// Colours are the tokens of the sheet, as they are now.
const probe = document.body.appendChild(document.createElement("span"));
probe.hidden = true;
const colour = (name) => {
  probe.style.color = `var(--${name})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  return `#${[red, green, blue].map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
};
const theme = () => ({
  background: colour("raised"), foreground: colour("ink"), cursor: colour("accent"), cursorAccent: colour("raised"),
  selectionBackground: colour("accent-wash"), selectionForeground: colour("ink"), selectionInactiveBackground: colour("grey-wash"),
  black: colour("ink"), red: colour("red"), green: colour("green"), yellow: colour("amber"), blue: colour("blue"), magenta: colour("violet"), cyan: colour("accent"), white: colour("ink-soft"),
  brightBlack: colour("ink-soft"), brightRed: colour("red-fill"), brightGreen: colour("green-fill"), brightYellow: colour("amber-fill"), brightBlue: colour("blue-fill"), brightMagenta: colour("violet-fill"), brightCyan: colour("accent"), brightWhite: colour("ink"),
});

const follow = (_event, address) => {
  if (!/^https?:\/\//i.test(address) || !confirm(`Open ${address}?`)) return; // oxlint-disable-line no-alert -- the address is the shell's
  window.open(address, "_blank", "noopener,noreferrer");
};
const terminal = new Terminal({
  fontFamily: '"JetBrains Mono Variable", ui-monospace, Menlo, Consolas, monospace', fontSize: 13, lineHeight: 1.2, scrollback: 10_000,
  cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches, screenReaderMode: true, minimumContrastRatio: 4.5,
  linkHandler: { activate: follow }, theme: theme(),
});
const fitting = new FitAddon.FitAddon();
terminal.loadAddon(fitting);

let socket = null;
let isOpen = false;
let shown = 0;
let told = 0;
let reason = "";

const state = (text) => { $("state").textContent = text; };
const over = (why) => {
  isOpen = false;
  socket = null;
  $("why").textContent = why;
  $("over").hidden = false;
  $("end").disabled = true;
  terminal.options.disableStdin = true;
  terminal.options.cursorBlink = false;
  state("The shell has ended");
  fit();
  if (document.activeElement === document.body || box.contains(document.activeElement)) $("again").focus();
};
const send = (data) => { if (socket?.readyState === WebSocket.OPEN) socket.send(data); };
const tellSize = () => send(JSON.stringify({ rows: terminal.rows, columns: terminal.cols }));
const fit = () => { if (box.clientWidth && box.clientHeight) fitting.fit(); };

const draw = (data) => {
  terminal.write(data, () => {
    shown += data.length;
    if (shown - told >= TOLD_EACH) {
      told = shown;
      send(JSON.stringify({ shown }));
    }
  });
};
const hear = (message) => {
  if (message.opened) {
    isOpen = true;
    tellSize();
    state("Open");
    return;
  }
  reason = message.reason || (message.exit_code === null ? "The shell has ended" : `The shell ended with exit code ${message.exit_code}`);
};

// Ask for a shell where one is to be asked for; its answer says why there is none.
async function asked() {
  if (!box.dataset.ask) return `${box.dataset.terminal}?rows=${terminal.rows}&columns=${terminal.cols}`;
  const body = JSON.stringify({ term: "xterm-256color", rows: Math.max(1, terminal.rows), columns: Math.max(1, terminal.cols) });
  const answer = await fetch(box.dataset.ask, { method: "POST", body, headers: { "Content-Type": "application/json", "X-CSRF-Token": token } });
  const found = await answer.json();
  if (!answer.ok) throw new Error([found.error?.message ?? answer.statusText, found.error?.hint].filter(Boolean).join(": "));
  return box.dataset.terminal.replace("SHELL", found.id);
}

async function open() {
  [shown, told, reason, isOpen] = [0, 0, "", false];
  $("over").hidden = true;
  $("end").disabled = false;
  terminal.options.disableStdin = false;
  fit();
  state("Opening a shell…");
  let address;
  try {
    address = await asked();
  } catch (error) {
    over(`No shell was opened: ${error.message}`);
    return;
  }
  const own = new WebSocket(`${location.origin.replace(/^http/, "ws")}${address}`, [PROTOCOL, `csrf.${token}`]);
  socket = own;
  own.binaryType = "arraybuffer";
  own.addEventListener("message", ({ data }) => { if (typeof data === "string") hear(JSON.parse(data)); else draw(new Uint8Array(data)); });
  own.addEventListener("close", () => {
    if (own !== socket) return;
    over(reason || (isOpen ? "The connection broke, and the shell has ended with it" : "No shell was opened: the service refused the connection. Load the page again"));
  });
  terminal.focus();
}

terminal.open(box);
terminal.onData((text) => send(new TextEncoder().encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
terminal.onResize(() => { if (isOpen) tellSize(); });
new ResizeObserver(fit).observe(box);
document.fonts.load('13px "JetBrains Mono Variable"').then(() => { terminal.options.fontFamily = `${terminal.options.fontFamily}`; fit(); });
for (const query of ["(prefers-color-scheme: dark)"]) matchMedia(query).addEventListener("change", () => { terminal.options.theme = theme(); });

// Ctrl-C is the shell's; with Shift it copies. Ctrl-Shift-V is left to the browser, which pastes.
const copy = async () => {
  const text = terminal.getSelection();
  if (!text) { state("Nothing is selected: drag over what you want"); return; }
  try {
    await navigator.clipboard.writeText(text);
    state("Copied");
  } catch {
    terminal.textarea.value = text; // plain http has no clipboard
    terminal.textarea.select();
    state(document.execCommand("copy") ? "Copied" : "This browser copies nothing here: use its menu");
    terminal.textarea.value = "";
  }
};
terminal.attachCustomKeyEventHandler((event) => {
  if (!event.ctrlKey || !event.shiftKey || event.altKey) return true;
  if (event.code === "KeyC") {
    if (event.type === "keydown") { event.preventDefault(); copy(); }
    return false;
  }
  return event.code !== "KeyV";
});
$("copy").addEventListener("click", () => { copy(); terminal.focus(); });
$("end").addEventListener("click", () => { reason = "You ended the shell"; socket?.close(); });
$("again").addEventListener("click", () => { terminal.write("\r\n\x1b[0m"); open(); });
addEventListener("pagehide", () => socket?.close());
addEventListener("beforeunload", (event) => { if (isOpen) event.preventDefault(); }); // a tab closed by mistake ends what runs in it

open();
