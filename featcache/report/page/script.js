"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const matrix = document.getElementById("matrix");
  document.documentElement.classList.add("js");
  if (!matrix) return;

  // The order of the classes: rows and columns of the matrix and the rows of the list below it.
  const head = matrix.tHead.rows[0];
  const body = matrix.tBodies[0];
  const list = document.getElementById("classes").tBodies[0];
  const columns = [...head.cells].slice(1);
  const rows = [...body.rows];
  const cells = rows.map((row) => [...row.cells].slice(1));
  const listed = [...list.rows].sort((one, other) => one.dataset.i - other.dataset.i);
  const by = {
    name: () => 0,
    recall: (one, other) => (data.recall[one] ?? 2) - (data.recall[other] ?? 2),
    support: (one, other) => data.support[other] - data.support[one],
  };
  let order = rows.map((_, i) => i);
  const sort = (what) => {
    order = rows.map((_, i) => i).sort((one, other) => by[what](one, other) || one - other);
    head.append(...order.map((i) => columns[i]));
    order.forEach((i) => rows[i].append(...order.map((j) => cells[i][j])));
    body.append(...order.map((i) => rows[i]));
    list.append(...order.map((i) => listed[i]));
  };
  document.querySelectorAll("input[name=order]").forEach((input) => {
    input.addEventListener("change", () => sort(input.value));
    if (input.checked && input.value !== "name") sort(input.value); // a reload keeps what was chosen
  });

  // What a cell is: [truth, prediction].
  const place = new Map();
  cells.forEach((row, i) => row.forEach((cell, j) => place.set(cell, [i, j])));
  const told = document.getElementById("told");
  let lit = [];
  const tell = (cell) => {
    lit.forEach((name) => name.classList.remove("on"));
    if (!place.has(cell)) return;
    const [i, j] = place.get(cell);
    lit = [rows[i].cells[0], columns[j]];
    lit.forEach((name) => name.classList.add("on"));
    told.textContent = cell.title || `${data.names[i]}: none ${i === j ? "right" : `taken for ${data.names[j]}`}`;
  };
  matrix.addEventListener("mouseover", (event) => tell(event.target.closest("td")));

  // The images of a cell.
  const dialog = document.getElementById("cell");
  const shown = document.getElementById("shown");
  const show = (cell) => {
    if (!place.has(cell) || !cell.title) return;
    const [i, j] = place.get(cell);
    const images = data.cells[`${i},${j}`] || [];
    document.getElementById("cell-title").textContent =
      i === j ? `${data.names[i]}, right` : `${data.names[i]} taken for ${data.names[j]}`;
    document.getElementById("cell-count").textContent =
      `${images.length} of ${cell.dataset.count}, the most confident first`;
    shown.replaceChildren(...images.map(([path, sure, truth, thumbnail]) => {
      const item = document.createElement("li");
      let picture = document.createElement("div");
      if (thumbnail < 0) {
        picture.className = "none";
        picture.textContent = "no thumbnail";
      } else {
        picture = document.createElement("img");
        picture.alt = `${data.by} ${path}`;
        picture.src = `data:image/webp;base64,${data.thumbnails[thumbnail]}`;
      }
      const name = document.createElement("code");
      name.textContent = path;
      const chances = document.createElement("span");
      chances.textContent = i === j
        ? `${sure} ${data.names[j]}`
        : `${sure} ${data.names[j]}; ${truth} ${data.names[i]}`;
      item.append(picture, name, chances);
      return item;
    }));
    dialog.showModal();
  };
  matrix.addEventListener("click", (event) => show(event.target.closest("td")));
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  // The keyboard: one stop for the whole matrix, arrows within it, Enter to look.
  matrix.setAttribute("role", "grid");
  let at = cells[0][0];
  at.tabIndex = 0;
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  matrix.addEventListener("focusin", (event) => {
    const cell = event.target.closest("td");
    if (!place.has(cell)) return;
    at.tabIndex = -1;
    at = cell;
    at.tabIndex = 0;
    tell(cell);
  });
  matrix.addEventListener("keydown", (event) => {
    if (!place.has(event.target)) return;
    if (event.key === "Enter" || event.key === " ") show(event.target);
    else if (event.key in steps) {
      const [i, j] = place.get(event.target);
      const [down, right] = steps[event.key];
      const row = order[order.indexOf(i) + down];
      const column = order[order.indexOf(j) + right];
      if (row === undefined || column === undefined) return;
      cells[row][column].tabIndex = -1;
      cells[row][column].focus();
    } else return;
    event.preventDefault();
  });
})();
