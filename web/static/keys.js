// Keys and the palette. One table: the keys act by it, "?" draws it, the palette offers it. Pages add theirs by keys.add.
"use strict";

const keys = (() => {
  const table = []; // { press: "g r" or "j", label, act }
  const add = (press, label, act) => table.push({ press, label, act });
  const go = (address) => () => { location.href = address; };
  for (const [press, label, address] of [
    ["g h", "Home", "/"], ["g p", "Projects", "/projects"], ["g r", "Runs", "/runs"], ["g i", "Images", "/images"],
    ["g c", "Containers", document.querySelector('.rail a[href="/containers"]')?.getAttribute("href")],
    ["g w", "Workers", "/workers"], ["g s", "Service", document.querySelector('.rail a[href="/service"], .rail a[href="/disk"], .rail a[href="/audit"]')?.getAttribute("href")],
  ]) if (address) add(press, label, go(address));

  add("/", "Search on this page", () => (document.querySelector('main input[type="search"]') ?? { focus: () => palette.open() }).focus());
  const rows = () => [...document.querySelectorAll("main a.row, main .card h2 a, main .list a.row")].filter((row) => row.offsetParent !== null);
  const step = (by) => () => {
    const all = rows();
    const now = all.indexOf(document.activeElement);
    const next = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : now + by];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  if (rows().length) {
    add("j", "Next row", step(1));
    add("k", "Previous row", step(-1));
  }

  let first = "";
  let forget = 0;
  const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      palette.open();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if ("noKeys" in document.body.dataset || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const pressed = first ? `${first} ${event.key}` : event.key;
    const found = table.find((each) => each.press === pressed);
    clearTimeout(forget);
    first = "";
    if (found) {
      event.preventDefault();
      found.act(event);
    } else if (table.some((each) => each.press.startsWith(`${pressed} `))) {
      first = pressed;
      forget = setTimeout(() => { first = ""; }, 1200);
    }
  });

  const show = () => {
    const dialog = document.createElement("dialog");
    dialog.className = "keys";
    dialog.setAttribute("aria-label", "Keys of this page");
    const title = document.createElement("h2");
    title.textContent = "Keys of this page";
    const list = document.createElement("dl");
    for (const { press, label } of [{ press: "Ctrl K", label: "Find a run, commit, image, page or action" }, ...table]) {
      const term = document.createElement("dt");
      for (const part of press.split(" ")) {
        const key = document.createElement("kbd");
        key.textContent = part;
        term.append(key, " ");
      }
      const meaning = document.createElement("dd");
      meaning.textContent = label;
      list.append(term, meaning);
    }
    const note = document.createElement("p");
    note.className = "hint";
    note.append("Single keys can be switched off at your ");
    const link = document.createElement("a");
    link.href = "/account#look";
    link.textContent = "account";
    note.append(link, ".");
    const foot = document.createElement("div");
    foot.className = "page-actions";
    const close = document.createElement("button");
    close.type = "button";
    close.className = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    foot.append(close);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.append(title, list, note, foot);
    document.body.append(dialog);
    dialog.showModal();
  };
  add("?", "The keys of this page", show);
  return { add, table, show };
})();

const palette = (() => {
  const MOST_PLACES = 8;
  const PLACES = "places";
  let dialog = null, field = null, list = null, told = null, asked = 0, answered = 0, wait = 0, hits = [], chosen = 0, isHurried = false;

  // The last places of this browser's user: shown while nothing is typed. Signing in begins anew.
  const places = () => { try { return JSON.parse(localStorage.getItem(PLACES)) ?? []; } catch { return []; } };
  const here = location.pathname + location.search;
  const name = (document.querySelector("h1")?.textContent ?? document.title).replace(/\s+/g, " ").trim();
  const keep = (all) => { try { localStorage.setItem(PLACES, JSON.stringify(all)); } catch { /* no room: the places stay as they were */ } };
  if (!document.querySelector("[data-not-a-place]")) {
    keep([{ here, name: name.slice(0, 120) }, ...places().filter((each) => each.here !== here)].slice(0, MOST_PLACES + 1));
  }

  const icon = (symbol) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${document.body.dataset.sprite}#${symbol}`);
    svg.append(use);
    return svg;
  };
  const row = (symbol, text, kind, act) => {
    const item = document.createElement("li");
    item.setAttribute("role", "option");
    const shown = document.createElement("bdi");
    shown.className = "cut";
    shown.textContent = text;
    const said = document.createElement("span");
    said.className = "soft small";
    said.textContent = kind;
    item.append(icon(symbol), shown, said);
    item.act = act;
    return item;
  };
  const go = (address) => () => { location.href = address; };

  // The actions that this page offers its reader: its own buttons, so that nothing is offered which it refuses.
  const actions = (text) => {
    const found = [];
    for (const control of document.querySelectorAll("main .page-actions .button, main [data-action]")) {
      const label = (control.dataset.action ?? control.textContent).replace(/\s+/g, " ").trim();
      if (control.disabled || control.offsetParent === null || !label.toLowerCase().includes(text)) continue;
      found.push(row("play", label, "on this page", () => { dialog.close(); control.click(); }));
    }
    const look = (detail) => document.dispatchEvent(new CustomEvent("look", { detail }));
    const looks = [
      ["theme", "Colours: next of system, light, dark", () => document.getElementById("theme").click()],
      ["layers", document.documentElement.dataset.density ? "Rows: comfortable" : "Rows: compact", () => look({ density: document.documentElement.dataset.density ? "" : "compact" })],
      ["shell", document.documentElement.dataset.log ? "Logs: as the page" : "Logs: dark", () => look({ log: document.documentElement.dataset.log ? "" : "dark" })],
      ["key", "Keys of this page", () => keys.show()],
    ];
    if (text) for (const [symbol, label, act] of looks) if (label.toLowerCase().includes(text)) found.push(row(symbol, label, "action", () => { dialog.close(); act(); }));
    return found.slice(0, 8);
  };

  const choose = (index) => {
    chosen = hits.length ? (index + hits.length) % hits.length : 0;
    hits.forEach((hit, at) => hit.setAttribute("aria-selected", String(at === chosen)));
    if (hits.length) {
      field.setAttribute("aria-activedescendant", hits[chosen].id);
      hits[chosen].scrollIntoView({ block: "nearest" });
    } else field.removeAttribute("aria-activedescendant");
  };
  const draw = (found) => {
    hits = found;
    hits.forEach((hit, at) => { hit.id = `hit-${at}`; });
    list.replaceChildren(...hits);
    choose(0);
    if (isHurried && answered === asked) hits[0]?.act(); // Enter came before the answer did
  };
  const search = async () => {
    const text = field.value.trim();
    const number = ++asked;
    const onlyActions = text.startsWith(">");
    const own = actions(text.replace(/^>\s*/, "").toLowerCase());
    if (!text) {
      draw([...own, ...places().filter((each) => each.here !== here).slice(0, MOST_PLACES).map((each) => row("clock", each.name, "lately", go(each.here)))]);
    }
    if (onlyActions) {
      answered = number;
      draw(own);
      return;
    }
    let found;
    try {
      const answer = await fetch(`/find?q=${encodeURIComponent(text)}`, { headers: { Accept: "application/json" } });
      if (answer.redirected) { location.reload(); return; } // signed out since: the page leads to signing in, and back
      if (!answer.ok) throw new Error(answer.statusText);
      found = (await answer.json()).map((hit) => row(hit.symbol, hit.text, hit.kind, go(hit.path)));
    } catch {
      if (number !== asked) return;
      isHurried = false; // what Enter was meant for did not come
      answered = number;
      if (text) draw(own);
      told.textContent = "The server does not answer";
      return;
    }
    if (number !== asked) return;
    answered = number;
    draw(text ? [...(/^[#@]/.test(text) ? [] : own), ...found] : [...hits, ...found]);
    told.textContent = `${hits.length} found`;
  };

  const make = () => {
    dialog = document.createElement("dialog");
    dialog.className = "palette";
    dialog.setAttribute("aria-label", "Find anything");
    field = document.createElement("input");
    for (const [attribute, value] of Object.entries({
      type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "found", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
      "aria-label": "Find a run, commit, image, page or action", placeholder: "Find a run, commit, image, page or action",
    })) field.setAttribute(attribute, value);
    list = document.createElement("ul");
    list.className = "list";
    list.id = "found";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Found");
    const foot = document.createElement("p");
    foot.className = "foot";
    for (const text of ["> only actions", "# runs", "@ people"]) foot.append(Object.assign(document.createElement("span"), { textContent: text }));
    told = foot.appendChild(document.createElement("span")); // within the dialog: what is outside is not read out now
    told.setAttribute("role", "status");
    const close = foot.appendChild(document.createElement("button")); // a phone has no Escape
    close.type = "button";
    close.className = "button quiet slim push";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(field, list, foot);
    document.body.append(dialog);
    field.addEventListener("input", () => { asked++; isHurried = false; clearTimeout(wait); wait = setTimeout(search, 80); });
    field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") choose(chosen + 1);
      else if (event.key === "ArrowUp") choose(chosen - 1);
      else if (event.key === "Enter" && !event.isComposing) { if (answered === asked) hits[chosen]?.act(); else isHurried = true; }
      else return;
      event.preventDefault();
    });
    list.addEventListener("click", (event) => event.target.closest("li")?.act());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  };
  const open = () => {
    if (!dialog) make();
    if (dialog.open) return;
    field.value = "";
    isHurried = false;
    dialog.showModal();
    search();
  };
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-find]") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });
  return { open };
})();
