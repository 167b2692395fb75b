// Forms of settings: what was changed and is not saved has a dot in the list of sections, and is not left without a question.
"use strict";

{
  const stateOf = (form) => new URLSearchParams(new FormData(form)).toString();
  const dot = document.querySelector(".unsaved-dot");
  dot.closest("a").scrollIntoView({ block: "nearest", inline: "center" }); // on a phone the list is a row that scrolls
  const changed = new Set();
  for (const form of document.querySelectorAll("form[data-watched]")) {
    const saved = "changed" in form.dataset ? null : stateOf(form); // null: what is shown was refused, and never saved
    const look = () => {
      if (saved === null || stateOf(form) !== saved) changed.add(form);
      else changed.delete(form);
      form.querySelector(".unsaved").hidden = !changed.has(form);
      dot.hidden = changed.size === 0;
    };
    form.addEventListener("input", look);
    form.addEventListener("submit", () => changed.delete(form));
    addEventListener("pageshow", look); // browsers fill in again what was typed before somebody went back
  }
  addEventListener("beforeunload", (event) => { if (changed.size) event.preventDefault(); });
}
