// How a log is shown: with times or without, wrapped, dark, on the whole screen. Browsers remember it.

import { say, set } from "./words.js";

const TIMES = ["", "start", "clock"];
const TIMES_WORDS = { "": "Times", start: "Times: since start", clock: "Times: clock" };
const NARROW = 600; // px: too narrow for times
const remembered = (name) => localStorage.getItem(`log-${name}`) ?? "";

export class Modes {
  /** `log`: the panel. */
  constructor(log) {
    this.log = log;
    const times = remembered("times") || (log.isPlain ? "clock" : "start");
    this.setTimes(log.panel.clientWidth < NARROW || times === "off" ? "" : times);
    if (remembered("wrap")) this.setWrap(true);
    this.showDark();
    this.looked = () => this.showDark();
    document.addEventListener("look", this.looked);
  }

  setTimes(times) {
    this.times = times;
    this.log.panel.classList.toggle("no-times", !times);
    this.log.button("times").setAttribute("aria-pressed", String(Boolean(times)));
    set(this.log.button("times").querySelector("span") ?? this.log.button("times"), TIMES_WORDS[times]);
    this.log.view.refresh();
  }

  nextTimes() {
    const next = TIMES[(TIMES.indexOf(this.times) + 1) % TIMES.length];
    localStorage.setItem("log-times", next || "off");
    this.setTimes(next);
    say(next ? TIMES_WORDS[next] : "Times: off");
  }

  setWrap(on) {
    localStorage.setItem("log-wrap", on ? "1" : "");
    this.log.panel.classList.toggle("wrap", on);
    this.log.button("wrap").setAttribute("aria-pressed", String(on));
    this.log.view.wrap(on);
  }

  /** Colours of the log alone; they are the account's, as the page's are. */
  setDark(on) {
    document.dispatchEvent(new CustomEvent("look", { detail: { log: on ? "dark" : "" } }));
  }

  get isDark() {
    return document.documentElement.dataset.log === "dark";
  }

  showDark() {
    this.log.button("dark")?.setAttribute("aria-pressed", String(this.isDark));
  }

  setFull(on) {
    document.body.classList.toggle("full", on);
    this.log.button("full").setAttribute("aria-pressed", String(on));
  }

  close() {
    this.setFull(false);
    document.removeEventListener("look", this.looked);
  }
}
