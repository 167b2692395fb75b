// The jobs of a run by keys: j and k choose the next one and the one before.

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (event.key !== "j" && event.key !== "k") return;
  const links = [...document.querySelectorAll("#jobs .job-row a")];
  const at = links.findIndex((link) => link.hasAttribute("aria-current"));
  const next = links[at + (event.key === "j" ? 1 : -1)];
  if (at >= 0 && next) location.assign(next.href);
});

// The chosen job's row is in sight, also where there are more than fit; the first one in sight is so in full.
const row = document.querySelector("#jobs .on");
const panel = row?.closest(".tall");
if (panel) {
  const place = (element) => element.getBoundingClientRect();
  const head = panel.querySelector("thead").offsetHeight;
  const room = panel.clientHeight - head;
  if (place(row).bottom > place(panel).top + panel.clientHeight) {
    const first = [...panel.querySelectorAll(".job-row")].find((other) => place(row).bottom - place(other).top < room * 0.7) ?? row;
    panel.scrollTop += place(first).top - place(panel).top - head;
  }
}
