// A notification of the desktop when a run ends or waits for a person, for who asked for it with the button at the head,
// while somebody looks elsewhere. Of this tab and this run alone: a browser that is opened again asks for nothing.

const STATES = { blocked: "It waits for a person", cancelled: "It was cancelled", error: "It could not be done", failed: "It failed", succeeded: "It succeeded", warnings: "It succeeded with warnings" };
const KEPT = "notify-run";
const number = document.getElementById("run").dataset.number;
const isAsked = () => sessionStorage.getItem(KEPT) === number && Notification.permission === "granted";
const stateOf = () => document.querySelector("#head [data-tab]").dataset.tab;
let before = stateOf();

// Why there can be none; empty where there can.
function obstacle() {
  if (!globalThis.isSecureContext || !globalThis.Notification) return "Notifications need https";
  return Notification.permission === "denied" ? "The browser blocks notifications" : "";
}

// The head comes anew as the run changes: its button, too.
function show() {
  const button = document.getElementById("notify");
  if (!button) return;
  const why = obstacle();
  button.hidden = false;
  button.setAttribute("aria-pressed", String(!why && isAsked()));
  if (why) {
    button.setAttribute("aria-disabled", "true");
    button.querySelector("span").textContent = why;
  }
}

document.addEventListener("click", async (event) => {
  if (!event.target.closest("#notify") || obstacle()) return;
  if (isAsked()) sessionStorage.removeItem(KEPT);
  else if (await Notification.requestPermission() === "granted") sessionStorage.setItem(KEPT, number);
  show();
});
document.addEventListener("htmx:afterSettle", () => {
  show();
  const state = stateOf();
  if (state === before) return;
  before = state;
  if (!(state in STATES) || obstacle() || !isAsked()) return;
  if (state !== "blocked") sessionStorage.removeItem(KEPT); // it has ended
  if (!document.hidden && document.hasFocus()) return; // it is seen
  const { tabTitle } = document.querySelector("#head [data-tab]").dataset;
  const told = new Notification(tabTitle, { body: STATES[state], tag: `run-${number}`, icon: document.getElementById("tab-icon").href });
  told.addEventListener("click", () => { window.focus(); told.close(); });
});
show();
