// What somebody did, told at the lower right for some seconds. Never a fault: these stay beside what they are about.
// Whoever has something to tell sends document an event "toast": { text, href, label }; the last two for a link.
"use strict";

{
  const LASTS_MS = 6000;
  const MOST = 3; // at once
  const SVG = "http://www.w3.org/2000/svg";
  const box = document.getElementById("toasts");

  const toast = ({ text, href = "", label = "Open" }) => {
    const made = document.createElement("div");
    made.className = "toast";
    const told = made.appendChild(document.createElement("span"));
    told.textContent = text;
    if (href) {
      const link = made.appendChild(document.createElement("a"));
      link.href = href;
      link.textContent = label;
    }
    const close = made.appendChild(document.createElement("button"));
    close.type = "button";
    close.className = "icon-button";
    close.setAttribute("aria-label", "Close this message");
    const svg = close.appendChild(document.createElementNS(SVG, "svg"));
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    svg.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", `${document.body.dataset.sprite}#cross`);
    close.addEventListener("click", () => made.remove());
    // As long as somebody is at it, it stays.
    let timer = 0;
    const stay = () => clearTimeout(timer);
    const go = () => {
      stay();
      timer = setTimeout(() => made.remove(), LASTS_MS);
    };
    const leave = () => { if (!made.matches(":hover, :focus-within")) go(); };
    made.addEventListener("pointerenter", stay);
    made.addEventListener("focusin", stay);
    made.addEventListener("pointerleave", leave);
    made.addEventListener("focusout", () => setTimeout(leave));
    go();
    box.append(made);
    while (box.children.length > MOST) box.firstChild.remove();
  };
  document.addEventListener("toast", ({ detail }) => toast(detail));
  // What the page before did is told by this one's address; without JavaScript it stands on the page.
  for (const notice of document.querySelectorAll("[data-toast]")) {
    const text = notice.textContent.trim().replaceAll(/\s+/g, " ");
    notice.remove();
    if (text) toast({ text });
  }
}
