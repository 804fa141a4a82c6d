"use strict";
// What the page does on a click or a key; without it every image is still there, in the lists below the matrix.
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// A cell of the confusion matrix opens the images behind it.
const dialog = document.querySelector("dialog");
for (const link of all("a[href^='#cell-']")) {
  link.addEventListener("click", (event) => {
    const pair = document.getElementById(link.getAttribute("href").slice(1));
    if (!pair || !dialog.showModal) return;
    event.preventDefault();
    dialog.querySelector("h2").textContent = all("span", pair.querySelector("summary")).map((one) => one.textContent).join(": ");
    dialog.querySelector("div").replaceChildren(...[...pair.children].slice(1).map((node) => node.cloneNode(true)));
    dialog.showModal();
    dialog.querySelector("h2").focus();
  });
}

// A table sorts by the column whose title is pressed; again, the other way round.
for (const table of all("table.sortable")) {
  const heads = all("thead th", table);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const rows = all("tbody tr", table);
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const isNumber = rows.every((row) => row.children[column].dataset.value !== undefined);
    const down = head.ariaSort === "none" ? isNumber : head.ariaSort === "ascending";
    const order = (a, b) => (isNumber ? key(a) - key(b) : key(a).localeCompare(key(b)));
    rows.sort((a, b) => (down ? -order(a, b) : order(a, b)));
    for (const other of heads) other.ariaSort = "none";
    head.ariaSort = down ? "descending" : "ascending";
    table.tBodies[0].append(...rows);
  }));
}

// A class of the legend stands out on the map.
const legend = all(".legend button");
for (const button of legend) {
  button.addEventListener("click", () => {
    const isChosen = button.ariaPressed !== "true";
    for (const other of legend) other.ariaPressed = String(other === button && isChosen);
    const points = document.getElementById("points");
    points.classList.toggle("faded", isChosen);
    for (const group of all(".class", points)) {
      group.classList.toggle("chosen", group.dataset.class === button.dataset.class);
    }
  });
}

// A link into something that is closed opens it, and so does printing.
const open = (element) => {
  for (let one = element; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
};
const follow = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) { open(target); target.scrollIntoView(); }
};
addEventListener("hashchange", follow);
follow();
let closed = [];
addEventListener("beforeprint", () => {
  closed = all("details:not([open])");
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
});
