// The look: colours (as the system, light, dark, and round again), rows, single keys, logs. In a cookie, so that the
// server draws the next page in it at once; and at the account, for the next browser. Whoever changes it elsewhere sends
// document an event "look" with what is to be: { log: "dark" }.
"use strict";

{
  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const show = () => button?.setAttribute("aria-label", `Colours: ${THEMES[root.dataset.theme ?? ""]}`);

  // One request after the other: of two at once the older may come last.
  let unsent = null;
  let isSending = false;
  const send = () => {
    const body = new URLSearchParams(unsent);
    unsent = null;
    const token = document.querySelector('meta[name="csrf-token"]').content;
    return fetch("/account/look", { method: "POST", body, headers: { "X-CSRF-Token": token, "HX-Request": "true" }, keepalive: true }).catch(() => {});
  };
  const sendAll = async () => {
    isSending = true;
    while (unsent) await send();
    isSending = false;
  };
  addEventListener("pagehide", () => { if (unsent) send(); });

  const keep = () => {
    const { theme = "", density = "", log = "" } = root.dataset;
    const look = { theme, density, log, keys: "noKeys" in document.body.dataset ? "" : "1" };
    const words = [theme, density, look.keys ? "" : "nokeys", log && `${log}log`].filter(Boolean).join(".");
    const safe = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `shiplap_look=${words}; path=/; samesite=lax; max-age=${words ? 34560000 : 0}${safe}`;
    unsent = look;
    if (!isSending) sendAll();
  };
  document.addEventListener("look", ({ detail }) => {
    for (const [name, value] of Object.entries(detail)) {
      if (value) root.dataset[name] = value;
      else delete root.dataset[name];
    }
    show();
    keep();
  });
  button?.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const theme = names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length];
    document.dispatchEvent(new CustomEvent("look", { detail: { theme } }));
    document.getElementById("said").textContent = `Colours: ${THEMES[theme]}`;
  });
  show();
}
