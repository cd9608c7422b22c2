// What moves on the site, without a library and without a server: predictions, sliders, sorting, copying.
"use strict";

function ready(act) {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", act);
  else act();
}

// A prediction: the first choice counts, opens what was measured, and is compared with it.
function predictions() {
  for (const gate of document.querySelectorAll(".gate[data-fold]")) {
    const fold = document.getElementById(gate.dataset.fold);
    if (!fold) continue;
    const buttons = [...gate.querySelectorAll("button")];
    const verdict = gate.querySelector(".verdict");
    for (const button of buttons) {
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        if (gate.dataset.chosen !== undefined) return;
        gate.dataset.chosen = button.textContent;
        button.setAttribute("aria-pressed", "true");
        for (const other of buttons) other.setAttribute("aria-disabled", "true");
        fold.open = true;
        const measured = fold.dataset.measured;
        verdict.textContent = button.textContent === measured
          ? `✓ Measured: ${measured}, as you predicted.`
          : `✗ Measured: ${measured}. You predicted: ${button.textContent}.`;
      });
    }
  }
}

// Folded code is called by its first line, not "Toggle hidden content" each time.
function nameFolds() {
  for (const summary of document.querySelectorAll("details.hide > summary[aria-label]")) {
    summary.removeAttribute("aria-label");
  }
}

// A link into a closed fold opens it.
function openFolds() {
  const name = decodeURIComponent(location.hash.slice(1));
  const target = name && document.getElementById(name);
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) {
    fold.open = true;
  }
  target.scrollIntoView();
}

// Sliders: the places of their values name the picture.
function explorers() {
  for (const explorer of document.querySelectorAll(".explorer")) {
    const pictures = JSON.parse(explorer.querySelector("script").textContent);
    const controls = [...explorer.querySelectorAll(".control")];
    const image = explorer.querySelector("img");
    const sentence = explorer.querySelector(".sentence");
    const place = control => control.querySelector("input[type=range], input:checked").value;
    const show = () => {
      for (const range of explorer.querySelectorAll("input[type=range]")) {
        const value = JSON.parse(range.dataset.values)[range.value];
        range.setAttribute("aria-valuetext", value);
        range.nextElementSibling.textContent = value;
      }
      const picture = pictures[controls.map(place).join(",")];
      image.hidden = !picture;
      if (picture) {
        image.src = picture.file;
        image.alt = picture.sentence;
        if (picture.width) image.width = picture.width;
      }
      sentence.textContent = picture
        ? picture.sentence
        : "No picture is stored for these values; in a live lab there is one.";
    };
    explorer.addEventListener("input", show);
    show(); // a browser that goes back keeps the sliders where they were
  }
}

// Tables: a click on a heading sorts by it, a second one the other way.
function sorting() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const body = table.tBodies[0];
      const text = row => row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) *
        text(a).localeCompare(text(b), "en", {numeric: true}));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    }));
  }
}

// Commands are copied; where the browser forbids it they are selected.
function copying() {
  for (const box of document.querySelectorAll(".copy")) {
    const code = box.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${code.textContent}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
    });
    box.append(button);
  }
}

ready(() => {
  nameFolds();
  predictions();
  explorers();
  sorting();
  copying();
  openFolds();
  addEventListener("hashchange", openFolds);
});
