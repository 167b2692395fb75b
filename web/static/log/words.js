// What several parts of the log's panel say with.

export const NUMBERS = new Intl.NumberFormat();

export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Tell what somebody did, so that they see it, too. */
export function toast(text) {
  document.dispatchEvent(new CustomEvent("toast", { detail: { text } }));
}

export function plural(count, word) {
  return `${NUMBERS.format(count)} ${word}${count === 1 ? "" : "s"}`;
}

/** Have an element say a text; one that says it already is left alone. */
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
