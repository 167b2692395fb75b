// A table whose rows are chosen: the button says how many are, and rests while none is.
"use strict";

const form = document.getElementById("choose");
const button = document.getElementById("delete-chosen");
const count = () => {
  if (!form || !button) return;
  const chosen = form.querySelectorAll('input[name="chosen"]:checked').length;
  const { one } = button.dataset;
  button.disabled = !chosen;
  button.querySelector("span").textContent = chosen ? `Delete ${chosen} ${one}${chosen === 1 ? "" : "s"}…` : `Delete chosen ${one}s…`;
};
form?.addEventListener("change", count);
addEventListener("pageshow", count); // back to the page: browsers keep what was ticked
count();
