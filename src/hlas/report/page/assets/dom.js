// Elements without innerHTML: what a transcript holds is only ever text here.

/** An element with attributes and children; a string child becomes text, null is left out. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Fill a select with [value, label] pairs. */
function fillSelect(select, pairs) {
  select.replaceChildren(...pairs.map(([value, label]) => element("option", {value}, label)));
}

/** The JSON in a script element of the page; null where the page has none. */
function pageJson(id) {
  const holder = document.getElementById(id);
  return holder ? JSON.parse(holder.textContent) : null;
}

/** A fraction as the Python side writes it: "41.2 %" with a no-break space. */
function percent(value) {
  return `${(100 * value).toFixed(1)}\u00a0%`;
}
