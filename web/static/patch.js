// A part of the page is made like a fresh one by changing only what differs: the rest is neither laid out nor drawn
// again, keeps its focus, and what turns in it goes on turning. Children with an id are found by it, others by their place.

/** Make `old` like `fresh`, which is an element of the same kind. */
export function patch(old, fresh) {
  const { activeElement: active } = document;
  patchElement(old, fresh);
  if (active?.id && document.activeElement !== active) document.getElementById(active.id)?.focus({ preventScroll: true });
}

function patchElement(old, fresh) {
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  const wanted = new Set(Array.from(fresh.children, ({ id }) => id));
  const named = new Map(Array.from(old.children, (child) => [child.id, child]));
  for (const [id, child] of named) if (id && !wanted.has(id)) child.remove();
  let at = old.firstChild;
  for (const node of fresh.childNodes) {
    const match = node.id ? named.get(node.id) : at;
    if (!isAlike(match, node)) {
      old.insertBefore(document.importNode(node, true), at);
      continue;
    }
    while (at !== match && at?.nodeType === Node.TEXT_NODE) at = dropped(at);
    if (at === match) at = at.nextSibling;
    else old.insertBefore(match, at);
    if (match.isEqualNode(node)) continue;
    if (node.nodeType === Node.ELEMENT_NODE) patchElement(match, node);
    else match.data = node.data;
  }
  while (at) at = dropped(at);
}

const isAlike = (old, fresh) => old && old.nodeName === fresh.nodeName && (old.id ?? "") === (fresh.id ?? "");

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}
