// The jobs of a run by keys: j and k choose the next one and the one before.

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (event.key !== "j" && event.key !== "k") return;
  const links = [...document.querySelectorAll("#jobs .job-row a")];
  const at = links.findIndex((link) => link.hasAttribute("aria-current"));
  const next = links[at + (event.key === "j" ? 1 : -1)];
  if (at >= 0 && next) location.assign(next.href);
});

// The chosen job's row is in sight, also where there are more than fit.
const row = document.querySelector("#jobs .on");
const panel = row?.closest(".tall");
if (panel) {
  const below = row.getBoundingClientRect().bottom - panel.getBoundingClientRect().bottom;
  if (below > 0) panel.scrollTop += below + panel.clientHeight / 2;
}
