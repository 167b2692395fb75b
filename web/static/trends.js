// A project's trends as charts with a crosshair: by the pointer, or by the arrow keys while a chart has the focus.
// Colours are the page's tokens, read again when they change. Without this script the server's drawings stay.
"use strict";

(async () => {
  const all = document.getElementById("trends");
  if (!all || !globalThis.uPlot) return;
  let data;
  try {
    const answer = await fetch(all.dataset.source);
    if (!answer.ok) return;
    data = await answer.json();
  } catch {
    return; // the server's drawings stay
  }
  const days = data.days.map((day) => Date.parse(`${day}T00:00:00Z`) / 1000);
  const seconds = (value) => (value === null || value === undefined ? "–" : value < 60 ? `${value.toFixed(value < 9.95 ? 1 : 0)} s` : value < 3600 ? `${Math.floor(value / 60)} min ${String(Math.round(value % 60)).padStart(2, "0")} s` : `${(value / 3600).toFixed(1)} h`);
  const percent = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(value === 100 || value === 0 ? 0 : 1)} %`);
  const count = (value) => String(value ?? 0);
  const some = (values) => values.map((value) => value || null); // no bar of nothing
  const parts = data.reused.map((part) => (part === null ? null : 100 * part));
  const KINDS = {
    duration: { lines: [["usual", data.median_s, "--accent", seconds], ["slowest 5 %", data.slow_s, "--line-strong", seconds]], axis: seconds },
    success: { lines: [["succeeded", data.succeeded, "--green-fill", count], ["failed", data.failed, "--red-fill", count]], drawn: [some(data.succeeded.map((good, at) => good + data.failed[at])), some(data.failed)], axis: (value) => (Number.isInteger(value) ? String(value) : "") },
    reused: { lines: [["reused", parts, "--accent", percent]], axis: percent, most: 100 },
    queue: { lines: [["waited", data.waited_s, "--accent", seconds]], axis: seconds },
  };
  const colour = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const drawn = [];
  const draw = () => {
    for (const each of drawn.splice(0)) each.destroy();
    for (const place of all.querySelectorAll("[data-plot]")) {
      const kind = KINDS[place.dataset.plot];
      const reading = place.parentElement.querySelector(".reading");
      const grid = { stroke: colour("--line"), width: 1 };
      const axis = { stroke: colour("--ink-soft"), grid, ticks: { show: false }, font: "11px 'Instrument Sans Variable', sans-serif" };
      const bars = place.dataset.plot === "success" ? globalThis.uPlot.paths.bars({ size: [0.7, 24] }) : undefined;
      const chart = new globalThis.uPlot({
        width: Math.max(200, place.clientWidth), height: 190, legend: { show: false }, cursor: { y: false, points: { size: 7 } },
        scales: { x: { time: true }, y: { range: (_, __, greatest) => [0, kind.most ?? (greatest * 1.08 || 1)] } },
        tzDate: (at) => globalThis.uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
        axes: [{ ...axis, space: 70 }, { ...axis, size: 62, values: (_, ticks) => ticks.map(kind.axis) }],
        series: [{}, ...kind.lines.map(([, , token], at) => ({ stroke: colour(token), width: 1.6, dash: at && !bars ? [4, 4] : undefined, fill: bars ? colour(token) : undefined, paths: bars, spanGaps: true, points: { show: !bars && kind.lines[at][1].filter((value) => value !== null).length < 2, size: 6, fill: colour(token) } }))],
        hooks: { setCursor: [(plot) => {
          const at = plot.cursor.idx;
          reading.textContent = at === null || at === undefined ? "" : `${data.days[at]}: ${kind.lines.map(([name, values, , told]) => `${name} ${told(values[at])}`).join(", ")}`;
        }] },
      }, [days, ...(kind.drawn ?? kind.lines.map(([, values]) => values))]);
      place.replaceChildren(chart.root);
      place.tabIndex = 0;
      place.onkeydown = (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1, Home: -days.length, End: days.length }[event.key];
        if (!by) return;
        event.preventDefault();
        const at = Math.min(days.length - 1, Math.max(0, (chart.cursor.idx ?? days.length - 1) + by));
        chart.setCursor({ left: chart.valToPos(days[at], "x"), top: 10 });
      };
      drawn.push(chart);
    }
  };
  draw();
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(draw, 150); });
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
